"""The two layouts of token embeddings: hand values, and that Packed and Padded always agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from sentence_transformers.ops.tokens import Group, Packed, Padded, TokenIds, groups_of

# two sequences: [[1, 10], [3, -20]] and [[5, 6]]
PACKED = Packed(torch.tensor([[1.0, 10], [3, -20], [5, 6]]), (2, 1))
LENGTHS = [(3, 3, 1, 4), (1,), (2, 2, 2), (5, 0, 0, 2), (0, 3), (0,)]


def packed(lengths: tuple[int, ...], width: int = 4) -> Packed:
    generator = torch.Generator().manual_seed(sum(lengths))
    return Packed(torch.randn(sum(lengths), width, generator=generator), lengths)


def left_padded(tokens: Packed) -> Padded:
    padded = tokens.pad()
    values, mask = torch.full_like(padded.values, 99.0), torch.zeros_like(padded.mask)  # padding must not be read
    for row, length in enumerate(tokens.lengths):
        values[row, values.shape[1] - length :] = padded.values[row, :length]
        mask[row, values.shape[1] - length :] = 1
    return Padded(values, mask)


def weights_of(tokens: Packed) -> torch.Tensor:
    return torch.arange(1, len(tokens.values) + 1, dtype=torch.float32)


def test_runs_of_equal_lengths_are_groups() -> None:
    assert groups_of((3, 3, 1)) == (Group(0, 2, 3, 0), Group(2, 1, 1, 6))
    assert [group.stop for group in groups_of((3, 3, 1))] == [6, 7]
    assert groups_of(()) == ()


def test_positions_count_from_zero_in_every_sequence() -> None:
    assert packed((3, 0, 2, 2)).positions().tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert packed(()).positions().tolist() == []
    ids = TokenIds(torch.arange(5), (2, 3), torch.zeros(5, dtype=torch.int64))
    assert ids.positions().tolist() == [0, 1, 0, 1, 2]


def test_token_ids_move_with_their_segments() -> None:
    moved = TokenIds(torch.arange(2), (2,), torch.zeros(2)).to(torch.device("meta"))
    assert moved.ids.device.type == "meta"
    assert moved.type_ids is not None
    assert moved.type_ids.device.type == "meta"
    assert TokenIds(torch.arange(2), (2,)).to(torch.device("meta")).type_ids is None


def test_sums_equal_the_hand_values() -> None:
    total, counts = PACKED.sum()
    assert total.tolist() == [[4, -10], [5, 6]]
    assert counts.tolist() == [[2], [1]]
    total, counts = PACKED.sum(torch.tensor([2.0, 1, 10]))
    assert total.tolist() == [[5, 0], [50, 60]]
    assert counts.tolist() == [[3], [10]]


def test_maxima_and_ends_equal_the_hand_values() -> None:
    assert PACKED.max().tolist() == [[3, 10], [5, 6]]
    assert PACKED.take("first").tolist() == [[1, 10], [5, 6]]
    assert PACKED.take("last").tolist() == [[3, -20], [5, 6]]


def test_dropping_the_first_equals_the_hand_value() -> None:
    dropped = PACKED.drop_first(1)
    assert dropped.lengths == (1, 0)
    assert dropped.values.tolist() == [[3, -20]]


@pytest.mark.parametrize("lengths", [lengths for lengths in LENGTHS if any(lengths)])  # width 0 has no maximum
@pytest.mark.parametrize("pad", [Packed.pad, left_padded])
def test_reductions_of_both_layouts_agree(lengths: tuple[int, ...], pad: object) -> None:
    tokens = packed(lengths)
    padded = pad(tokens)  # type: ignore[operator]
    for ours, theirs in zip(tokens.sum(), padded.sum(), strict=True):
        assert_close(ours, theirs)
    assert_close(tokens.max(), padded.max())
    assert_close(tokens.take("first"), padded.take("first"))
    assert_close(tokens.take("last"), padded.take("last"))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("pad", [Packed.pad, left_padded])
def test_weighted_sums_of_both_layouts_agree(lengths: tuple[int, ...], pad: object) -> None:
    tokens = packed(lengths)
    padded = pad(tokens)  # type: ignore[operator]
    weights = weights_of(tokens)
    spread = torch.full(padded.mask.shape, math.pi)  # weights of padding must not count
    spread[padded.mask != 0] = weights
    for ours, theirs in zip(tokens.sum(weights), padded.sum(spread), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("lengths", [*LENGTHS, ()])
def test_padding_and_packing_give_the_same_back(lengths: tuple[int, ...]) -> None:
    tokens = packed(lengths)
    back = tokens.pad().pack()
    assert back.lengths == lengths
    assert torch.equal(back.values, tokens.values)


def test_packing_drops_padding_on_the_left() -> None:
    tokens = packed((3, 1, 2))
    back = left_padded(tokens).pack()
    assert back.lengths == (3, 1, 2)
    assert torch.equal(back.values, tokens.values)


def test_padding_is_zero_and_on_the_right() -> None:
    padded = PACKED.pad()
    assert padded.mask.tolist() == [[1, 1], [1, 0]]
    assert padded.values[1, 1].tolist() == [0, 0]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("pad", [Packed.pad, left_padded])
def test_dropping_the_first_agrees_in_both_layouts(count: int, pad: object) -> None:
    tokens = packed((3, 3, 0, 1, 5))
    ours, theirs = tokens.drop_first(count), pad(tokens).drop_first(count).pack()  # type: ignore[operator]
    assert ours.lengths == theirs.lengths
    assert torch.equal(ours.values, theirs.values)


def test_dropping_does_not_change_the_mask_it_came_from() -> None:
    padded = PACKED.pad()
    padded.drop_first(1)
    assert padded.mask.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_rows_agree_in_both_layouts(lengths: tuple[int, ...]) -> None:
    tokens = packed(lengths)
    for ours, theirs in zip(tokens.rows(), tokens.pad().rows(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_sequence_without_tokens_has_neutral_reductions() -> None:
    tokens = packed((2, 0))
    for layout in (tokens, tokens.pad()):
        total, counts = layout.sum()
        assert total[1].tolist() == [0, 0, 0, 0]
        assert counts.tolist() == [[2], [0]]
        assert layout.max()[1].tolist() == [-math.inf] * 4
        assert layout.take("last")[1].tolist() == [0, 0, 0, 0]


def test_no_sequences_give_empty_reductions() -> None:
    tokens = packed(())
    assert tokens.sum()[0].shape == (0, 4)
    assert tokens.max().shape == (0, 4)
    assert tokens.take("first").shape == (0, 4)
    assert tokens.drop_first(1).lengths == ()
    assert tokens.rows() == []


def test_positions_agree_on_real_tokens() -> None:
    tokens = packed((3, 1, 2))
    padded = left_padded(tokens)
    assert torch.equal(padded.positions()[padded.mask != 0], tokens.positions())


def test_replacing_values_keeps_the_layout() -> None:
    doubled = PACKED.replace(PACKED.values * 2)
    assert doubled.lengths == PACKED.lengths
    padded = PACKED.pad()
    assert padded.replace(padded.values * 2).mask is padded.mask


@pytest.mark.parametrize("name", ["sum", "max", "drop_first"])
def test_gradients_agree_in_both_layouts(name: str) -> None:
    results = []
    for as_padded in (False, True):
        values = packed((3, 1, 3)).values.requires_grad_()
        tokens = Packed(values, (3, 1, 3))
        layout = tokens.pad() if as_padded else tokens
        outcome = {
            "sum": lambda layout=layout: layout.sum()[0],
            "max": lambda layout=layout: layout.max(),
            "drop_first": lambda layout=layout: layout.drop_first(1).sum()[0],
        }[name]()
        (outcome * torch.arange(1.0, outcome.numel() + 1).view_as(outcome)).sum().backward()
        results.append(values.grad)
    assert_close(results[0], results[1])
