"""The layers of docs/adr/0001, applied to every file of the package and to sources made up to break them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.layers import CHECKOUT, LAYERS, ROOT, files, violations

PACKAGE = CHECKOUT / ROOT


@pytest.mark.parametrize("path", [str(path.relative_to(PACKAGE)) for path in files()])
def test_every_file_imports_downwards(path: str) -> None:
    assert violations(Path(path), (PACKAGE / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("ops/similarity.py", "from sentence_transformers.modules.pooling import Pooling", "modules, which is above"),
        ("ops/similarity.py", "from sentence_transformers.hub import source", "hub, which is beside"),
        ("ops/similarity.py", "from ..modules import pooling", "modules, which is above"),
        ("backend/native/encoder.py", "from ... import encoders", "encoders, which is above"),
        ("modules/pooling.py", "def f():\n    from ..encoders import dense", "encoders, which is above"),
        ("modules/pooling.py", "import sentence_transformers.cli.main", "cli, which is above"),
        ("hub/trust.py", "import_module('sentence_transformers.modules.pooling')", "modules, which is above"),
        ("losses/pairs.py", "from sentence_transformers.search import semantic", "search, which is beside"),
        ("search/mining.py", "from sentence_transformers import losses", "losses, which is beside"),
        ("__init__.py", "from .encoders.dense import SentenceTransformer", "encoders, which is above"),
        ("errors.py", "from sentence_transformers import _types", "_types, which is beside"),
        ("cli/main.py", "from sentence_transformers import SentenceTransformer", "public path"),
        ("encoders/dense.py", "from sentence_transformers.util import cos_sim", "public path"),
        ("encoders/dense.py", "import sentence_transformers", "itself"),
        ("inference/plan.py", "import pandas as pd", "inference never needs"),
        ("ops/similarity.py", "def f():\n    from scipy.sparse import coo_matrix", "inference never needs"),
        ("losses/pairs.py", "class A:\n    import sklearn.metrics", "inference never needs"),
        ("modules/transformer.py", "from transformers import AutoModel", "at the start"),
        ("evaluation/triplet.py", "try:\n    import transformers\nexcept ImportError:\n    pass", "at the start"),
        ("evaluation/triplet.py", "import datasets", "at the start"),
        ("training/trainer.py", "import pandas", "at the start"),
        ("_lazy.py", "import torch", "loads nothing"),
        ("attic/old.py", "import os", "no room"),
    ],
)  # fmt: skip
def test_a_wrong_import_is_named(path: str, source: str, why: str) -> None:
    found = violations(Path(path), source)
    assert len(found) == 1 and found[0].startswith(path) and why in found[0], found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ops/similarity.py", "import torch\nimport numpy as np\nfrom sentence_transformers import errors"),
        ("ops/maxsim.py", "from .similarity import cos_sim\nfrom sentence_transformers._types import Features"),
        ("backend/transformers.py", "def load():\n    from transformers import AutoModel"),
        ("backend/transformers.py", "if TYPE_CHECKING:\n    from transformers import PreTrainedModel"),
        ("training/trainer.py", "import datasets"),
        ("evaluation/triplet.py", "def columns():\n    import datasets"),
        ("cli/main.py", "from sentence_transformers.encoders.dense import SentenceTransformer\nimport argparse"),
        ("cards/render.py", "from sentence_transformers._version import __version__"),
    ],
)
def test_a_right_import_passes(path: str, source: str) -> None:
    assert violations(Path(path), source) == []


def test_the_type_checking_block_is_no_way_up() -> None:
    source = "if TYPE_CHECKING:\n    from sentence_transformers.encoders.dense import SentenceTransformer"
    assert violations(Path("modules/pooling.py"), source)


def test_only_the_body_of_a_type_checking_block_is_not_run() -> None:
    source = "if TYPE_CHECKING:\n    pass\nelse:\n    import transformers"
    assert violations(Path("modules/pooling.py"), source)


def test_every_room_stands_in_one_layer() -> None:
    rooms = [room for layer in LAYERS for room in layer]
    assert len(rooms) == len(set(rooms))
