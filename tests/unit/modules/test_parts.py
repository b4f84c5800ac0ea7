"""What parts share: renamed arguments, tables of ids, the tokenizer inside a tokenizer."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from sentence_transformers.modules.linear import Dense
from sentence_transformers.modules.parts import (
    PreparedTable,
    over_vectors,
    renamed_arguments,
    rust_tokenizer,
    table_of,
)
from sentence_transformers.modules.token_tensors import take
from sentence_transformers.ops.tokens import Packed


@renamed_arguments(old="new")
def double(new: int) -> int:
    return 2 * new


def test_an_old_argument_name_warns_and_works() -> None:
    with pytest.warns(FutureWarning, match=r"double\(old=\.\.\.\) is now double\(new=\.\.\.\)"):
        assert double(old=4) == 8  # type: ignore[call-arg]


def test_the_new_name_wins_over_the_old_one() -> None:
    with pytest.warns(FutureWarning):
        assert double(new=1, old=4) == 2  # type: ignore[call-arg]


def test_a_renamed_function_shows_only_the_new_name() -> None:
    assert list(inspect.signature(double).parameters) == ["new"]


@pytest.mark.parametrize("name", ["get_sentence_embedding_dimension", "get_word_embedding_dimension"])
def test_old_names_of_the_dimension_warn_and_work(name: str) -> None:
    with pytest.warns(FutureWarning, match="get_embedding_dimension"):
        assert getattr(Dense(3, 2), name)() == 2


def test_over_vectors_keeps_the_layout() -> None:
    packed = over_vectors(Packed(torch.ones(3, 2), (2, 1)), lambda x: x + 1)
    assert isinstance(packed, Packed)
    assert packed.lengths == (2, 1)
    assert torch.equal(packed.values, torch.full((3, 2), 2.0))


def test_a_table_takes_ragged_rows_in_any_order() -> None:
    tokens = take(table_of([[1, 2], [], [3]]), np.array([2, 1, 0]))
    assert tokens.ids.tolist() == [3, 1, 2]
    assert tokens.lengths == (1, 0, 2)


def test_a_table_cuts_and_counts_long_rows() -> None:
    table = table_of([[1, 2, 3], [4, 5], [6]], limit=2)
    assert table.ids.tolist() == [1, 2, 4, 5, 6]
    assert (table.truncated, table.limit) == (1, 2)


def test_a_prepared_table_builds_batches_of_chosen_rows() -> None:
    prepared = PreparedTable(table_of([[7], [8, 9]]), lambda tokens: {"tokens": tokens})
    assert prepared.sizes.tolist() == [1, 2]
    assert prepared.batch(np.array([1]))["tokens"].ids.tolist() == [8, 9]


def test_the_rust_tokenizer_is_found_in_a_wrapper() -> None:
    class Wrapper:
        backend_tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))

    assert rust_tokenizer(Wrapper()) is Wrapper.backend_tokenizer


def test_a_python_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="must be fast"):
        rust_tokenizer("a tokenizer")
