"""Copies of a model, by ``deepcopy``, pickle and files, before and after ``auto_model`` was built."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.native.network import NativeNetwork

TEXTS = texts.TINY_TEXTS[:7]  # the last one is too long


def _pickled(model: SentenceTransformer) -> SentenceTransformer:
    copied: SentenceTransformer = pickle.loads(pickle.dumps(model))
    return copied


def _torch_saved(model: SentenceTransformer) -> SentenceTransformer:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copied: SentenceTransformer = torch.load(buffer, weights_only=False)
    return copied


STATES = ["fresh", "encoded", "built", "built and encoded", "changed"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled, _torch_saved])
def test_a_copy_gives_the_same_rows(duplicate: Any, state: str, model: SentenceTransformer) -> None:
    if "built" in state or state == "changed":
        _ = model[0].auto_model
    if state == "changed":
        model[0].auto_model.encoder.layer[0].intermediate.intermediate_act_fn = nn.ReLU()
    if "encoded" in state:
        model.encode(TEXTS)
    twin = duplicate(model)
    np.testing.assert_allclose(twin.encode(TEXTS), model.encode(TEXTS), rtol=0, atol=0)
    assert type(twin[0].network()) is type(model[0].network())
    assert (twin[0].pretrained.built is None) == (model[0].pretrained.built is None)


@pytest.mark.parametrize("state", ["fresh", "built and encoded"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled])
def test_a_copy_is_independent(duplicate: Any, state: str, model: SentenceTransformer) -> None:
    if "built" in state:
        _ = model[0].auto_model
    before = model.encode(TEXTS)
    twin = duplicate(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    twin.max_seq_length = 5
    np.testing.assert_array_equal(model.encode(TEXTS), before)
    assert model.max_seq_length == 64
    assert np.abs(twin.encode(TEXTS) - before).max() > 1e-3


def test_a_copy_of_a_built_model_can_be_trained(model: SentenceTransformer) -> None:
    _ = model[0].auto_model
    model.encode(TEXTS)
    twin = _pickled(model)
    before = twin.encode(TEXTS)
    steps = torch.optim.SGD(twin.parameters(), lr=0.05)
    twin.train()
    twin(twin.preprocess(TEXTS))["sentence_embedding"].pow(2).sum().backward()
    steps.step()
    assert isinstance(twin[0].network(), NativeNetwork)
    assert np.abs(twin.encode(TEXTS) - before).max() > 1e-3


def test_a_built_model_is_saved_as_it_is_now(model: SentenceTransformer, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    model.encode(TEXTS)
    model.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), rtol=0, atol=3e-6)


def test_safetensors_takes_the_state_dict_although_parameters_share_memory(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    _ = model[0].auto_model
    model.encode(TEXTS)
    state = model.state_dict()
    save_file(state, tmp_path / "all.safetensors")
    loaded = load_file(tmp_path / "all.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
