"""Losses on token vectors that gather the documents of all processes: one process of a group, or all rows in one.

``python losses_late_gathering.py RANK WORLD FOLDER`` is one process of a gloo group that meets in FOLDER and writes its
losses and gradients to FOLDER/RANK.pt. The package must be on the path.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import losses_late_facts as facts
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sentence_transformers.losses import multi_vector

ROWS = 4  # of those in the facts; the documents of either half have other lengths
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ranking": (facts.RANKING, {"scale": 0.5}),
    "ranking, parts": (facts.RANKING, {"mini_batch_size": 1, "score_mini_batch_size": 1}),
    "cached": (facts.CACHED, {"mini_batch_size": 1}),
}


class Layer(nn.Module):
    """Token vectors through something to train."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(facts.WIDTH, 3).double()
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(torch.sin(torch.arange(parameter.numel()) + 1.0).view_as(parameter))

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        return {**features, "token_embeddings": self.layer(features["given"])}


def rows_of(column: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Some rows, without padding that none of them needs."""
    width = int(column["attention_mask"][rows].sum(1).max())
    return {name: value[rows, :width] for name, value in column.items()}


def results(rows: slice) -> dict[str, list[Tensor]]:
    """Of every case on these rows: the loss, and the gradient of every parameter."""
    found = {}
    for name, (kind, given) in CASES.items():
        model = Layer()
        columns = [rows_of(facts.features(place), rows) for place in range(3)]
        value = getattr(multi_vector, kind)(model, gather_across_devices=dist.is_initialized(), **given)(columns)
        value.backward()
        found[name] = [value.detach(), *(parameter.grad for parameter in model.parameters())]
    return found


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    share = ROWS // world
    torch.save(results(slice(rank * share, (rank + 1) * share)), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
