"""Query expansion: what the config may say, where the new tokens stand, and the padded form upstream gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from sentence_transformers.modules.expansion import QueryExpansion, expansion_positions
from sentence_transformers.modules.processing import TextProcessor, TokenTable, starts_of
from sentence_transformers.modules.text_tokenizer import TextTokenizer
from sentence_transformers.modules.token_tensors import pad, take

NEW = 99
TEXTS = ["the cat sat", "a", "the cat sat on the mat and the dog sat by the door of the lake", ""]


def table_of(*rows: list[int], types: bool = False) -> TokenTable:
    ids = np.array([number for row in rows for number in row], dtype=np.int64)
    starts = starts_of(np.array([len(row) for row in rows], dtype=np.int64))
    return TokenTable(ids, starts, np.ones_like(ids) if types else None, [0], 7)


def rows_of(table: TokenTable, values: Any) -> list[list[Any]]:
    return [values[a:b].tolist() for a, b in zip(table.starts[:-1], table.starts[1:], strict=True)]


def made(config: dict[str, Any], query_length: int | None = None) -> QueryExpansion:
    """For a tokenizer with the tokens [MASK], 4; </s>, 5; the, 6."""
    ids = {"[MASK]": 4, "</s>": 5, "the": 6}
    return QueryExpansion.from_config(config, ids.get, ("[MASK]", "</s>"), query_length)


# --- configs ----------------------------------------------------------------------------------------------------------


def test_what_a_config_may_leave_out() -> None:
    assert made({"strategy": "fixed", "length": 8}) == QueryExpansion("fixed", 8, 4, attend=False, token=None)


def test_a_config_comes_back() -> None:
    config = {"strategy": "min", "attend": True, "token": "the", "length": 8}
    assert made(config).to_config() == config
    assert made(config).token_id == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "foo"}, r"query_expansion\['strategy'\] must be one of 'fixed', 'min'; got 'foo'"),
        ({"strategy": None}, r"\['strategy'\] must be one of .* got None"),
        ({"length": 0}, r"query_expansion\['length'\].* must be a positive integer, got 0"),
        ({"length": None}, "must be a positive integer, got None"),
        ({"length": 8.0}, "must be a positive integer, got 8.0"),
        ({"length": True}, "must be a positive integer, got True"),
        ({"attend": 1}, r"\['attend'\] must be True or False, got 1"),
        ({"token": "zzz"}, r"\['token'\] must be a token of the vocabulary of this tokenizer, got 'zzz'"),
        ({"token": ""}, r"\['token'\] must be a token of the vocabulary of this tokenizer, got ''"),
        ({"token": 3}, r"\['token'\] must be a token or None, got 3"),
        ({"lenght": 8}, r"key of query_expansion must be one of .*got 'lenght'. Did you mean 'length'"),
    ],
)
def test_a_config_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made({"strategy": "fixed", "length": 8, **changes})


def test_a_config_that_is_no_dict() -> None:
    with pytest.raises(ValueError, match="query_expansion must be a dict .* got 'fixed'"):
        made("fixed")  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", ["fixed", "min"])
def test_queries_may_not_be_cut_below_the_length(strategy: str) -> None:
    with pytest.raises(ValueError, match="query_length must be at least .* which is 8; got 7"):
        made({"strategy": strategy, "length": 8}, query_length=7)
    assert made({"strategy": strategy, "length": 8}, query_length=8).length == 8


@pytest.mark.parametrize(("fallbacks", "number"), [(["[MASK]", "</s>"], 4), ([None, "</s>"], 5)])
def test_the_token_without_a_name(fallbacks: list[str | None], number: int) -> None:
    ids = {"[MASK]": 4, "</s>": 5}
    config = {"strategy": "fixed", "length": 8}
    assert QueryExpansion.from_config(config, ids.get, fallbacks).token_id == number


def test_a_tokenizer_without_a_token_for_it() -> None:
    with pytest.raises(ValueError, match="must name a 'token' for a tokenizer that has neither a mask token"):
        QueryExpansion.from_config({"strategy": "fixed", "length": 8}, lambda token: None, [None, None])


def test_only_fixed_decides_over_the_limit() -> None:
    assert made({"strategy": "fixed", "length": 8}).limit(5) == 8
    assert made({"strategy": "fixed", "length": 8}).limit(None) == 8
    assert made({"strategy": "min", "length": 8}).limit(5) == 5
    assert made({"strategy": "min", "length": 8}).limit(None) is None


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fixed", "min"])
def test_short_queries_are_filled_up_behind(strategy: Any) -> None:
    found = QueryExpansion(strategy, 4, NEW).apply(table_of([1, 2], [], [1, 2, 3, 4, 5], [1, 2, 3, 4], [7]))
    assert rows_of(found, found.ids) == [
        [1, 2, NEW, NEW], [NEW] * 4, [1, 2, 3, 4, 5], [1, 2, 3, 4], [7, NEW, NEW, NEW]
    ]  # fmt: skip


def test_the_new_tokens_are_of_segment_0() -> None:
    found = QueryExpansion("fixed", 3, NEW).apply(table_of([1], [1, 2, 3], types=True))
    assert rows_of(found, found.types) == [[1, 0, 0], [1, 1, 1]]


def test_segments_that_are_all_0_stay_unsaid() -> None:
    assert QueryExpansion("fixed", 3, NEW).apply(table_of([1])).types is None


def test_what_was_cut_stays_known() -> None:
    found = QueryExpansion("fixed", 3, NEW).apply(table_of([1]))
    assert (found.cut, found.limit) == ([0], 7)


def test_new_tokens_are_not_looked_at() -> None:
    found = QueryExpansion("fixed", 3, NEW).apply(table_of([1], [1, 2, 3, 4], [1, 2]))
    assert found.visible is not None
    assert found.visible.tolist() == [1, 4, 2]
    assert take(found, np.array([2, 0])).visible == (2, 1)


def test_new_tokens_are_looked_at_with_attend() -> None:
    found = QueryExpansion("fixed", 3, NEW, attend=True).apply(table_of([1], [1, 2, 3, 4]))
    assert found.visible is None
    assert take(found, np.array([0])).visible is None


@pytest.mark.parametrize("attend", [False, True])
def test_no_queries(attend: bool) -> None:
    found = QueryExpansion("fixed", 3, NEW, attend).apply(table_of())
    assert (len(found.ids), found.starts.tolist()) == (0, [0])
    positions = expansion_positions(found)
    assert positions is not None and positions.shape == (0, 0)


def test_with_padding_on_the_left_tokens_that_are_looked_at_come_first() -> None:
    table = table_of([1, 2], [1, 2, 3, 4])
    found = QueryExpansion("fixed", 3, NEW, attend=True).apply(table, "left")
    assert rows_of(found, found.ids) == [[NEW, 1, 2], [1, 2, 3, 4]]
    hidden = QueryExpansion("fixed", 3, NEW, attend=False).apply(table, "left")
    assert rows_of(hidden, hidden.ids) == [[1, 2, NEW], [1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("side", "attend", "wanted"),
    [
        ("right", False, [[0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]]),
        ("right", True, [[0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]]),
        ("left", False, [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]]),
        ("left", True, [[0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]),
    ],
)
def test_positions(side: Any, attend: bool, wanted: list[list[int]]) -> None:
    found = QueryExpansion("min", 3, NEW, attend).apply(table_of([1, 2], [1, 2, 3, 4], [1]), side)
    positions = expansion_positions(found, side)
    assert positions is not None
    assert positions.dtype == torch.bool
    assert positions.int().tolist() == wanted


def test_a_table_without_new_tokens_has_no_positions() -> None:
    assert expansion_positions(table_of([1])) is None


# --- as upstream gives it ---------------------------------------------------------------------------------------------

# input_ids of sentence-transformers 6.2.0, preprocess(TEXTS, task="query"), tiny models "bert" and "t5", length 8
UPSTREAM = {
    "bert": [
        [2, 111, 28, 122, 117, 3, 4, 4],
        [2, 26, 3, 4, 4, 4, 4, 4],
        [2, 111, 28, 122, 117, 40, 92, 3],
        [2, 3, 4, 4, 4, 4, 4, 4],
    ],
    "t5": [
        [92, 139, 5, 93, 95, 1, 1, 1],
        [100, 1, 1, 1, 1, 1, 1, 1],
        [92, 139, 5, 93, 95, 3, 105, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ],
}
OWN = {"bert": [6, 3, 8, 2], "t5": [6, 2, 8, 1]}


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_padded_features_are_those_of_upstream(kind: str, attend: bool) -> None:
    tokenizer = tiny.FAMILIES[kind].tokenizer()
    processor = TextProcessor(tokenizer, 64)
    config = {"strategy": "fixed", "length": 8, "attend": attend}
    names = ("[MASK]", None) if kind == "bert" else (None, "</s>")
    expansion = QueryExpansion.from_config(config, tokenizer.token_to_id, names)
    table = expansion.apply(processor(TEXTS, expansion.limit(None)))
    features = pad(processor, take(table, np.arange(len(TEXTS))))
    assert features["input_ids"].tolist() == UPSTREAM[kind]
    new = [[place >= own for place in range(8)] for own in OWN[kind]]
    positions = expansion_positions(table)
    assert positions is not None
    assert positions.tolist() == new
    assert features["attention_mask"].tolist() == [[int(attend or not is_new) for is_new in row] for row in new]


@pytest.mark.parametrize(
    ("kind", "token", "wanted"), [("bert", None, "[MASK]"), ("t5", None, "</s>"), ("bert", "the", "the")]
)
def test_the_token_of_a_models_tokenizer(
    kind: str, token: str | None, wanted: str, tiny_folder: Callable[[str], Path]
) -> None:
    text = TextTokenizer(
        tiny_folder(kind), {}, with_types=True, limit=None, positions=None, lower=False, trust_remote_code=False
    )
    expansion = QueryExpansion.of({"strategy": "min", "length": 8, "token": token}, text)
    assert expansion.token_id == tiny.FAMILIES[kind].tokenizer().token_to_id(wanted)
