"""A call cut into shares for several processes, here one after the other in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import texts
import torch

from sentence_transformers.encoders.dense import _vectors
from sentence_transformers.inference import run as loop
from sentence_transformers.inference.collect import Matrix, Rows, SparseRows
from sentence_transformers.inference.run import Request, compute, run
from sentence_transformers.inference.share import Gathered, Kept, Share, offered_to

INPUTS = [*texts.SYSTEM_SENTENCES, *[text[:80] for text in texts.VARIED[:20]], "", "a", "a", *texts.SYSTEM_SENTENCES]
FINISH = partial(_vectors, width=None, normalise=False)
CPU = torch.device("cpu")


@pytest.fixture
def model(tiny_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(loop, "WINDOW", 7)
    return tiny_model("bert")


def shared(model: Any, request: Request, count: int, left_out: int | None = None) -> Matrix:
    """The call computed in ``count`` shares; of which one may be forgotten."""
    matrix = Matrix(len(request.inputs))
    threads = torch.get_num_threads()
    gathered = Gathered(matrix, len(request.inputs), CPU)
    compute(model, request, FINISH, gathered, Share(0, count, threads))
    for number in range(1, count):
        kept = Kept(Matrix.pack)
        compute(model, request, FINISH, kept, Share(number, count, threads))
        if number != left_out:
            gathered.add(kept.parcels)
    gathered.finish()
    return matrix


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("batch_size", [2, 32])
def test_shares_together_are_the_whole_to_the_bit(count: int, batch_size: int, model: Any) -> None:
    request = Request(INPUTS, batch_size=batch_size, on_truncate="ignore")
    whole = Matrix(len(INPUTS))
    run(model, request, FINISH, whole)
    found = shared(model, request, count)
    assert torch.equal(found.values, whole.values)  # type: ignore[arg-type]


def test_a_missing_share_is_an_error(model: Any) -> None:
    with pytest.raises(RuntimeError, match=r"Expected \d+ rows from all processes, got \d+: .* the same everywhere"):
        shared(model, Request(INPUTS, on_truncate="ignore"), 3, left_out=2)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("windows", [0, 1, 2, 3, 8, 9])
def test_every_window_is_for_one_process_or_divided_among_all(count: int, windows: int) -> None:
    shares = [Share(number, count, 1) for number in range(count)]
    for window in range(windows):
        whose = [share.number for share in shares if share.has(window, windows)]
        divided = shares[0].is_divided(window, windows)
        assert len(whose) == (count if divided else 1)
        assert [number for number in whose if shares[number].tells(window, windows)] == whose[:1]
        rows = sorted(row for number in whose for row in range(10)[shares[number].batches(window, windows)])
        assert rows == list(range(10))
    assert sum(shares[0].is_divided(window, windows) for window in range(windows)) < count


def test_truncation_is_told_once(model: Any) -> None:
    request = Request(["a b c " * 60] * 3 + ["b " * 90] + ["short"] * 9 + ["c " * 90])
    cuts = [compute(model, request, FINISH, Kept(Matrix.pack), Share(number, 2, 1)) for number in range(2)]
    assert sum(cut.count for cut in cuts) == compute(model, request, FINISH, Kept(Matrix.pack)).count == 5


def test_calls_are_offered_to_a_helper_which_may_decline(model: Any) -> None:
    offered = []

    def helper(*call: Any) -> bool:
        offered.append(call)
        return len(offered) == 1

    with offered_to(helper):
        assert model.encode(["a", "b"]).shape == (0,)  # taken, but nothing was done
        assert model.encode(["a", "b"]).shape == (2, 32)
        with offered_to(None):
            model.encode(["a"])
    model.encode(["a"])
    assert len(offered) == 2 and offered[0][0] is model


def test_packed_rows_are_free_of_what_they_are_a_part_of() -> None:
    rows = torch.arange(20.0).view(2, 10)[:, :3]
    packed = Matrix.pack(rows)
    assert torch.equal(packed, rows) and packed.untyped_storage().nbytes() == 6 * 4
    rows[0, 0] = 9
    assert packed[0, 0] == 0


def test_packed_rows_of_lists_and_features_keep_their_form() -> None:
    packed = Rows.pack([{"one": torch.ones(2), "two": "text"}, [torch.zeros(1)], None])
    assert packed[0]["two"] == "text" and packed[0]["one"].tolist() == [1, 1]
    assert packed[1][0].tolist() == [0] and packed[2] is None


@pytest.mark.parametrize("is_given_sparse", [False, True])
def test_packed_sparse_rows_are_sparse(is_given_sparse: bool) -> None:
    rows = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    packed = SparseRows.pack(rows.to_sparse() if is_given_sparse else rows)
    assert packed.is_sparse and packed.to_dense().tolist() == rows.tolist()
    collector = SparseRows(2)
    collector.put(np.array([1, 0]), packed)
    assert collector.tensor().to_dense().tolist() == [[0, 0], [0, 2]]
