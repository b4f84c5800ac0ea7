"""Embeddings of text, and models that score pairs. Importing this loads no torch: names load on first use.

The public names are rows of ``_public``; ``__init__.pyi`` tells editors and type checkers about them.
"""

from sentence_transformers import _lazy
from sentence_transformers._version import __version__ as __version__

__MODEL_HUB_ORGANIZATION__ = "sentence-transformers"

_lazy.install()
