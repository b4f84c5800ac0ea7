"""Losses that gather the texts of all processes: one process of a group, or all rows in one.

``python losses_gathering.py RANK WORLD FOLDER`` is one process of a gloo group that meets in FOLDER and writes its
losses and gradients to FOLDER/RANK.pt. The package must be on the path.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from losses_contrastive_facts import ALL_SETS, SYMMETRIC, Encoder, guided
from losses_pairs_facts import column
from torch import Tensor, nn

from sentence_transformers.losses import contrastive
from sentence_transformers.losses import guided as guided_losses

ROWS = 8
HARD = {"hardness_mode": "all_negatives", "hardness_strength": 2.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ranking": ("MultipleNegativesRankingLoss", {}),
    "ranking, all directions": ("MultipleNegativesRankingLoss", {"directions": ALL_SETS[-1], **HARD}),
    "ranking, own negatives": ("MultipleNegativesRankingLoss", {**HARD, "hardness_mode": "hard_negatives"}),
    "ranking, both ways": (
        "MultipleNegativesRankingLoss",
        {"directions": SYMMETRIC, "partition_mode": "per_direction"},
    ),
    "cached": ("CachedMultipleNegativesRankingLoss", {"mini_batch_size": 3}),
    "cached, all directions": (
        "CachedMultipleNegativesRankingLoss",
        {"mini_batch_size": 3, "directions": ALL_SETS[-1], **HARD},
    ),
    "guided": ("GISTEmbedLoss", {"margin": 0.05}),
    "guided, cached": ("CachedGISTEmbedLoss", {"margin": 0.05, "mini_batch_size": 3}),
}


class Layers(Encoder):
    """An encoder with something to train."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 6)).double()
        for place, parameter in enumerate(self.layers.parameters()):
            parameter.data = column(place, parameter.numel(), 1).view_as(parameter)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"sentence_embedding": self.layers(features["given"])}


def results(rows: slice) -> dict[str, list[Tensor]]:
    """Of every case on these rows: the loss, and the gradient of every parameter."""
    tokenizer = word_tokenizer()
    columns = [{"given": column(one)[rows], "guided": guided(one)[rows]} for one in range(3)]
    found = {}
    for name, (kind, given) in CASES.items():
        model = Layers(tokenizer)
        guide = (Encoder(tokenizer, "guided"),) if "GIST" in kind else ()
        home = guided_losses if guide else contrastive
        value = getattr(home, kind)(model, *guide, gather_across_devices=dist.is_initialized(), **given)(columns)
        value.backward()
        found[name] = [value.detach(), *(parameter.grad for parameter in model.layers.parameters())]
    return found


def word_tokenizer() -> Any:
    """The least that is a tokenizer of transformers."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"word": 0}, unk_token="word")))


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    share = ROWS // world
    torch.save(results(slice(rank * share, (rank + 1) * share)), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
