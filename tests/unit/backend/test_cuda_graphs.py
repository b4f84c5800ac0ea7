"""Recordings by length, with a stand-in for the recorder; and on a GPU the same vectors as without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.native.cuda_graphs import Compute, Recorded, Recordings
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.ops.tokens import TokenIds


def test_a_length_is_recorded_once_and_replayed() -> None:
    recorded: list[int] = []

    def recorder(compute: Compute, ids: Tensor) -> Recorded:
        recorded.append(len(ids))
        own, output = ids.clone(), compute(ids)
        return Recorded(own, output, lambda: output.copy_(compute(own)))

    recordings = Recordings(lambda ids: ids * 2.0, recorder)
    first = recordings.run(torch.tensor([1, 2, 3]))
    second = recordings.run(torch.tensor([4, 5, 6]))
    assert first.tolist() == [2, 4, 6]  # not overwritten by the second
    assert second.tolist() == [8, 10, 12]
    assert recordings.run(torch.tensor([7])).tolist() == [14]
    assert recorded == [3, 1]


def test_what_may_be_recorded(tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"cuda_graphs": True}
    models = {
        family: SentenceTransformer(str(tiny_folder(family)), device="cpu", model_kwargs=asked)
        for family in ("bert", "roberta")
    }
    networks = {family: model[0].network() for family, model in models.items()}
    assert all(network.cuda_graphs for network in networks.values())
    one, two = TokenIds(torch.arange(3), (3,)), TokenIds(torch.arange(4), (2, 2))
    assert not networks["bert"]._may_be_recorded(one)  # on the CPU
    monkeypatch.setattr(NativeNetwork, "device", torch.device("cuda"))
    assert networks["bert"]._may_be_recorded(one)
    assert not networks["bert"]._may_be_recorded(two)
    assert not networks["bert"]._may_be_recorded(TokenIds(torch.zeros(200, dtype=torch.long), (200,)))
    assert not networks["bert"]._may_be_recorded(TokenIds(torch.arange(3), (3,), torch.ones(3, dtype=torch.long)))
    assert not networks["roberta"]._may_be_recorded(one)  # it looks whether a token is padding


@pytest.mark.gpu
def test_on_a_gpu(tiny_folder: Callable[[str], Path]) -> None:
    texts = ["a dog", "two dogs in the sun", "rain", "a dog"]
    exact = SentenceTransformer(str(tiny_folder("bert")), device="cuda")
    model = SentenceTransformer(str(tiny_folder("bert")), device="cuda", model_kwargs={"cuda_graphs": True})
    for text in texts:
        assert abs(model.encode(text) - exact.encode(text)).max() < 1e-4
