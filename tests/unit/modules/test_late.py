"""The mask of late interaction, in both layouts. Masks with a remark were recorded from reference 6.2.0."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.modules.late import MultiVectorMask
from sentence_transformers.ops.tokens import Packed, TokenIds

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", ",", ".", "river", "!", "run", "##s"]
IDS = [[2, 5, 6, 8, 7, 9, 3, 4], [2, 5, 12, 13, 1, 3, 4, 4]]  # [CLS] the cat , sat . [SEP] | [CLS] the run ##s ...
REAL = [7, 6]  # the [MASK] tokens behind them expand the query
WIDTH = 3


class WordTable:
    unk_token = "[UNK]"
    unk_token_id = 1

    def convert_tokens_to_ids(self, words: list[str]) -> list[int]:
        return [VOCABULARY.index(word) if word in VOCABULARY else 1 for word in words]


def ready(*args: Any, **kwargs: Any) -> MultiVectorMask:
    mask = MultiVectorMask(*args, **kwargs)
    mask.on_model_ready(SimpleNamespace(tokenizer=WordTable()))
    return mask


def vectors() -> Tensor:
    return torch.arange(2.0 * 8 * WIDTH).view(2, 8, WIDTH)


def padded() -> dict[str, Any]:
    real = torch.arange(8)[None] < torch.tensor(REAL)[:, None]
    return {
        "token_embeddings": vectors(),
        "input_ids": torch.tensor(IDS),
        "attention_mask": real.long(),
        "query_expansion_positions": ~real,
    }


def packed(**changes: Any) -> dict[str, Any]:
    settings = {"ids": torch.tensor(IDS).flatten(), "lengths": (8, 8), "visible": tuple(REAL), **changes}
    return {"token_embeddings": Packed(vectors().flatten(0, 1), (8, 8)), "tokens": TokenIds(**settings)}


def kept(mask: MultiVectorMask, task: str | None) -> list[list[int]]:
    return mask(padded(), task=task)["attention_mask"].int().tolist()


# recorded from reference 6.2.0
RECORDED = [
    ({"skiplist_words": [",", ".", "!"]}, None, [[1, 1, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1, 0, 0]]),
    ({"skiplist_words": [",", ".", "!"]}, "query", [[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]]),
    ({"skiplist_words": [",", ".", "!"]}, "document", [[1, 1, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1, 0, 0]]),
    ({"skiplist_words": [",", ".", "!"]}, "other", [[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 0, 0]]),
    (
        {"skiplist_words": [",", "[MASK]", "[UNK]", "[PAD]"], "skiplist_tasks": ["query"]},
        "query",
        [[1, 1, 1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 0, 1, 0, 0]],
    ),
    ({"keep_only_token_ids": [5, 6]}, "other", [[0, 1, 1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]]),
    ({"keep_only_token_ids": []}, "document", [[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 0, 0]]),
    (
        {"skiplist_words": ["the"], "skiplist_tasks": ["query", "document"], "keep_only_token_ids": [5, 6]},
        None,
        [[0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]],
    ),
    (
        {"skiplist_words": ["the"], "skiplist_tasks": ["query", "document"], "keep_only_token_ids": [5, 6]},
        "query",
        [[1, 0, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1, 1, 1]],
    ),
]


@pytest.mark.parametrize(("settings", "task", "expected"), RECORDED)
def test_the_padded_mask_is_that_of_the_reference(settings: Any, task: str | None, expected: list[list[int]]) -> None:
    out = ready(**settings)(padded(), task=task)
    assert out["attention_mask"].dtype == torch.bool
    assert out["attention_mask"].int().tolist() == expected
    assert torch.equal(out["token_embeddings"], vectors())  # nothing else changes


@pytest.mark.parametrize(("settings", "task", "expected"), RECORDED)
def test_the_packed_form_holds_the_tokens_that_the_mask_keeps(
    settings: Any, task: str | None, expected: list[list[int]]
) -> None:
    out = ready(**settings)(packed(), task=task)
    chosen = torch.tensor(expected).bool()
    assert out["token_embeddings"].lengths == out["tokens"].lengths == tuple(map(sum, expected))
    assert_close(out["token_embeddings"].values, vectors()[chosen])
    assert out["tokens"].ids.tolist() == torch.tensor(IDS)[chosen].tolist()


def test_segments_and_visible_tokens_stay_in_step_with_the_kept_tokens() -> None:
    mask = ready([",", "."], skiplist_tasks=["query"])
    out = mask(packed(type_ids=torch.arange(16)), task="query")["tokens"]
    assert out.lengths == (6, 8)
    assert out.visible == (5, 6)
    assert out.type_ids.tolist() == [0, 1, 2, 4, 6, 7, *range(8, 16)]


def test_tokens_that_all_may_see_need_no_task() -> None:
    out = ready()(packed(visible=None))
    assert out["tokens"].lengths == (8, 8)


def test_the_task_may_stand_in_the_features() -> None:
    features = {**padded(), "task": "query"}
    assert bool(ready([","])(features)["attention_mask"].all())


def test_words_that_are_no_token_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        mask = ready([",", "zzz", "the cat", "The", "."])
    assert "['zzz', 'the cat', 'The']" in caplog.text
    assert kept(mask, "document")[1][4] == 1  # the unknown token of the document
    assert mask.skiplist_words == [",", "zzz", "the cat", "The", "."]  # saved as they were


def test_without_words_the_tokenizer_is_not_asked_for() -> None:
    MultiVectorMask().on_model_ready(object())


def test_known_words_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ready([",", "[UNK]"])
    assert caplog.text == ""


def test_embeddings_without_token_ids_pass() -> None:
    features = {"token_embeddings": torch.ones(1, 2, 3), "attention_mask": torch.ones(1, 2)}
    assert ready([","])(dict(features)) == features


def test_a_missing_attention_mask_means_all_tokens() -> None:
    features = padded()
    del features["attention_mask"], features["query_expansion_positions"]
    assert ready([","])(features)["attention_mask"].int().sum(1).tolist() == [7, 8]


@pytest.mark.parametrize(
    "features",
    [
        {"token_embeddings": torch.ones(1, 2, 3), "input_ids": torch.ones(1, 4)},
        {"token_embeddings": Packed(torch.ones(2, 3), (2,)), "tokens": TokenIds(torch.ones(4), (4,))},
    ],
)
def test_pooled_tokens_are_an_error(features: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one id for each token embedding"):
        ready([","])(features)


def test_it_is_saved_under_the_keys_of_the_reference_and_loads_again(tmp_path: Path) -> None:
    MultiVectorMask([",", "."], keep_only_token_ids=[5]).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"skiplist_words": [",", "."], "skiplist_tasks": ["document"], "keep_only_token_ids": [5]}
    assert MultiVectorMask.load(str(tmp_path)).get_config_dict() == config


def test_one_task_may_be_a_string() -> None:
    assert MultiVectorMask(skiplist_tasks="query").skiplist_tasks == ["query"]
