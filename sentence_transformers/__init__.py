"""Embeddings of text, and models that score pairs. Importing this loads no torch: names load on first use.

The public names are rows of ``_public``; ``__init__.pyi`` tells editors and type checkers about them.
"""

import warnings

from sentence_transformers import _lazy
from sentence_transformers._version import __version__ as __version__

__MODEL_HUB_ORGANIZATION__ = "sentence-transformers"

# sparse embeddings are multiplied in this format; that it is new is nothing a user could act on
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
_lazy.install()
