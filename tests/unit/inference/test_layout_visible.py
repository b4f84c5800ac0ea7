"""Packed queries with tokens that others do not look at, as the padded features that other people's modules expect."""

from __future__ import annotations

import torch

from sentence_transformers.inference.layout import padded
from sentence_transformers.modules.late import MultiVectorMask
from sentence_transformers.ops.tokens import Packed, TokenIds


def tokens(visible: tuple[int, ...] | None) -> TokenIds:
    """Sequences of 4, 2 and 3 tokens."""
    return TokenIds(torch.tensor([5, 6, 4, 4, 7, 4, 8, 9, 9]), (4, 2, 3), None, visible)


def test_tokens_that_were_added_are_marked_and_not_looked_at() -> None:
    out = padded({"tokens": tokens((2, 1, 3))})
    assert out["input_ids"].tolist() == [[5, 6, 4, 4], [7, 4, 0, 0], [8, 9, 9, 0]]
    assert out["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]
    assert out["query_expansion_positions"].int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert out["query_expansion_positions"].dtype is torch.bool


def test_every_real_token_is_either_seen_or_added() -> None:
    out = padded({"tokens": tokens((2, 1, 3))})
    real = (out["attention_mask"] != 0).int() + out["query_expansion_positions"].int()
    assert real.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]


def test_without_such_tokens_nothing_is_marked() -> None:
    out = padded({"tokens": tokens(None)})
    assert "query_expansion_positions" not in out
    assert out["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]


def test_their_vectors_stay() -> None:
    values = torch.arange(1.0, 10.0)[:, None]
    out = padded({"token_embeddings": Packed(values, (4, 2, 3)), "tokens": tokens((2, 1, 3))})
    assert out["token_embeddings"][..., 0].tolist() == [[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]]
    assert out["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]


def test_the_mask_of_late_interaction_keeps_the_same_tokens_in_either_layout() -> None:
    packed = {"token_embeddings": Packed(torch.arange(1.0, 10.0)[:, None], (4, 2, 3)), "tokens": tokens((2, 1, 3))}
    for task in ("query", "document", None):
        kept = MultiVectorMask()(dict(packed), task=task)["token_embeddings"]
        found = MultiVectorMask()(padded(packed), task=task)
        rows = [row[mask] for row, mask in zip(found["token_embeddings"], found["attention_mask"], strict=True)]
        assert [row.tolist() for row in rows] == [row.tolist() for row in kept.rows()]


def test_packed_tokens_of_which_a_mask_left_some_out_can_still_be_padded() -> None:
    skipping = MultiVectorMask(skiplist_tasks=["query"])
    skipping._skipped = torch.tensor([6, 9])
    packed = {"token_embeddings": Packed(torch.arange(1.0, 10.0)[:, None], (4, 2, 3)), "tokens": tokens((2, 1, 3))}
    out = padded(skipping(packed, task="query"))
    assert out["input_ids"].tolist() == [[5, 4, 4], [7, 4, 0], [8, 0, 0]]
    assert out["attention_mask"].tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert out["query_expansion_positions"].int().tolist() == [[0, 1, 1], [0, 1, 0], [0, 0, 0]]


def test_a_mask_that_somebody_set_hides_them_too() -> None:
    given = torch.ones(3, 4, dtype=torch.int64)
    out = padded({"attention_mask": given, "tokens": tokens((2, 1, 3))})
    assert out["attention_mask"][0].tolist() == [1, 1, 0, 0]
    assert given.sum() == 12  # a copy is changed
