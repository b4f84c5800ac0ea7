"""MultiVectorEncoder.encode: which tokens get a vector, the forms of the result, expansion, pooling, all features."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_heads as heads
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.modules.token_pooling import BaseTokenPooling, HierarchicalTokenPooling, LambdaTokenPooling
from sentence_transformers.ops.ragged import Ragged

TEXTS = ["the cat sat.", "A long river runs, from the high mountains, down to the sea!", "x", "", "the cat sat."]


@pytest.fixture(scope="module")
def late_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``late_folder(strategy, attend)``: a late model, perhaps with expansion to 16 tokens; don't write."""
    root = tmp_path_factory.mktemp("late")

    @cache
    def build(strategy: str = "", attend: bool = False) -> Path:
        expansion = {"query_expansion": {"strategy": strategy, "attend": attend, "length": 16}} if strategy else {}
        return heads.build_late("bert", root / f"{strategy}-{attend}", **expansion)

    return build


@pytest.fixture(scope="module")
def late(late_folder: Callable[..., Path]) -> MultiVectorEncoder:
    """Shared by all tests; don't change it. Prompts: "[Q] " and "[D] "."""
    return MultiVectorEncoder(str(late_folder()), device="cpu")


def tokens_of(model: MultiVectorEncoder, text: str, prompt: str) -> list[str]:
    """All tokens of a text, special ones included."""
    words: list[str] = model.tokenizer.convert_ids_to_tokens(model.tokenizer(prompt + text)["input_ids"])
    return words


def same(found: Any, expected: Any, tolerance: float = 3e-6) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


class Passes(nn.Module):
    """Somebody's own module, which expects padded tensors."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        assert features["token_embeddings"].dim() == 3
        return features


# --- which tokens get a vector


def test_every_token_of_a_query_has_a_vector(late: MultiVectorEncoder) -> None:
    found = late.encode_query(TEXTS)
    assert [row.shape for row in found] == [(len(tokens_of(late, text, "[Q] ")), 16) for text in TEXTS]


def test_punctuation_of_a_document_has_none(late: MultiVectorEncoder) -> None:
    """The skiplist is ``string.punctuation``: what is one token of it in this vocabulary."""
    skipped = set(late[2].skiplist_words)
    kept = [[token for token in tokens_of(late, text, "[D] ") if token not in skipped] for text in TEXTS]
    assert [len(row) for row in late.encode_document(TEXTS)] == [len(row) for row in kept]
    assert len(kept[1]) < len(tokens_of(late, TEXTS[1], "[D] "))


def test_the_vectors_of_a_document_are_those_of_its_other_tokens(late: MultiVectorEncoder) -> None:
    skipped = set(late[2].skiplist_words)
    whole = late.encode(TEXTS, prompt="[D] ", task="query")
    for row, all_of_them, text in zip(late.encode_document(TEXTS), whole, TEXTS, strict=True):
        kept = torch.tensor([token not in skipped for token in tokens_of(late, text, "[D] ")])
        torch.testing.assert_close(row, all_of_them[kept], rtol=0, atol=3e-6)


def test_no_task_is_that_of_a_document(late: MultiVectorEncoder) -> None:
    same(late.encode(TEXTS, prompt="[D] "), late.encode_document(TEXTS), 0)
    same(late.encode(TEXTS, prompt="[D] ", task="document"), late.encode_document(TEXTS), 0)


def test_every_vector_has_length_one(late: MultiVectorEncoder) -> None:
    lengths = torch.cat(late.encode_document(TEXTS)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_module_that_wants_padded_tensors_changes_nothing(late: MultiVectorEncoder) -> None:
    for place in (1, 2, 3, 4):
        parts: list[nn.Module] = list(late)
        parts.insert(place, Passes())
        mixed = MultiVectorEncoder(modules=parts, prompts=late.prompts, device="cpu")
        same(mixed.encode_query(TEXTS), late.encode_query(TEXTS))
        same(mixed.encode_document(TEXTS), late.encode_document(TEXTS))


# --- query expansion


@pytest.mark.parametrize(("strategy", "long"), [("fixed", 16), ("min", 20)])
def test_queries_are_filled_up(strategy: str, long: int, late_folder: Callable[..., Path]) -> None:
    model = MultiVectorEncoder(str(late_folder(strategy)), device="cpu")
    assert len(tokens_of(model, "a a a a a a a a a a a a a a a", "[Q] ")) == 20
    found = model.encode_query(["x", "", "a a a a a a a a a a a a a a a"], on_truncate="ignore")
    assert [len(row) for row in found] == [16, 16, long]


def test_documents_are_not_filled_up(late_folder: Callable[..., Path], late: MultiVectorEncoder) -> None:
    model = MultiVectorEncoder(str(late_folder("fixed")), device="cpu")
    same(model.encode_document(TEXTS), late.encode_document(TEXTS), 0)


@pytest.mark.parametrize(("attend", "alike"), [(False, True), (True, False)])
def test_what_the_text_sees_of_the_new_tokens(
    attend: bool, alike: bool, late_folder: Callable[..., Path], late: MultiVectorEncoder
) -> None:
    """Without ``attend``, its own vectors are those of a model without expansion."""
    model = MultiVectorEncoder(str(late_folder("fixed", attend)), device="cpu")
    plain, filled = late.encode_query("the cat"), model.encode_query("the cat")
    assert torch.allclose(filled[: len(plain)], plain, rtol=0, atol=3e-6) is alike
    assert len(filled) == 16


@pytest.mark.parametrize("attend", [False, True])
def test_expansion_survives_a_module_that_wants_padded_tensors(attend: bool, late_folder: Callable[..., Path]) -> None:
    model = MultiVectorEncoder(str(late_folder("min", attend)), device="cpu")
    parts: list[nn.Module] = [model[0], Passes(), *list(model)[1:]]
    mixed = MultiVectorEncoder(modules=parts, prompts=model.prompts, device="cpu")
    same(mixed.encode_query(TEXTS), model.encode_query(TEXTS))


def test_a_query_that_is_cut_is_counted(late_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    model = MultiVectorEncoder(str(late_folder("fixed")), device="cpu")
    model.encode_query(["x", "a " * 30])
    assert "1 of 2 inputs are longer than" in caplog.text
    assert "only 16 tokens" in caplog.text
    caplog.clear()
    model.encode_document(["x", "a " * 30])
    assert not caplog.text


@pytest.mark.parametrize("masked", [True, False])
def test_expansion_without_a_mask_is_a_warning(
    masked: bool, late_folder: Callable[..., Path], late: MultiVectorEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    first = MultiVectorEncoder(str(late_folder("fixed")), device="cpu")[0]
    caplog.clear()
    MultiVectorEncoder(modules=[first, late[1], *([late[2]] if masked else []), late[3]], device="cpu")
    assert ("without a MultiVectorMask" in caplog.text) is not masked


def test_lengths_of_queries_and_documents(tmp_path: Path) -> None:
    folder = heads.build_late("bert", tmp_path, query_length=6, document_length=9)
    model = MultiVectorEncoder(str(folder), device="cpu")
    text = "a b c d e f g h i j k"
    found = model.encode_query(text, on_truncate="ignore"), model.encode_document(text, on_truncate="ignore")
    # the brackets of "[D]" are punctuation, and get no vector
    assert [len(row) for row in found] == [6, 9 - 2]
    with pytest.raises(ValueError, match="1 of 1 inputs are longer than .* 9 tokens"):
        model.encode_document([text], on_truncate="error")


# --- forms of the result


def test_results_are_ordinary_tensors_apart_from_one_another(late: MultiVectorEncoder) -> None:
    found = late.encode_document(TEXTS)
    assert not any(row.is_inference() for row in found)
    before = found[4].clone()
    found[0].zero_()  # the same text, which was computed once
    assert torch.equal(found[4], before)
    assert all(row.untyped_storage().nbytes() == row.numel() * 4 for row in found)  # no batch is held for a row


def test_a_single_input_is_one_matrix(late: MultiVectorEncoder) -> None:
    assert torch.equal(late.encode_query(TEXTS[1]), late.encode_query(TEXTS[1:2])[0])
    array = late.encode_query(TEXTS[1], convert_to_numpy=True)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32


@pytest.mark.parametrize("as_array", [False, True])
def test_one_block_with_offsets_holds_the_list(as_array: bool, late: MultiVectorEncoder) -> None:
    listed = late.encode_document(TEXTS, convert_to_numpy=as_array)
    block = late.encode_document(TEXTS, convert_to_numpy=as_array, ragged=True)
    assert isinstance(block, Ragged)
    assert isinstance(block.values, np.ndarray if as_array else Tensor)
    assert block.offsets.tolist() == np.cumsum([0, *map(len, listed)]).tolist()
    assert all(bool((ours == theirs).all()) for ours, theirs in zip(block, listed, strict=True))


@pytest.mark.parametrize("as_array", [False, True])
def test_an_empty_block_keeps_the_width(as_array: bool, late: MultiVectorEncoder) -> None:
    block = late.encode([], convert_to_numpy=as_array, ragged=True)
    assert (len(block), tuple(block.values.shape), block.offsets.tolist()) == (0, (0, 16), [0])
    assert isinstance(block.values, np.ndarray if as_array else Tensor)


def test_a_single_input_needs_no_offsets(late: MultiVectorEncoder) -> None:
    assert torch.equal(late.encode_query("x", ragged=True), late.encode_query("x"))


def test_a_block_is_compared_as_the_list(late: MultiVectorEncoder) -> None:
    queries, documents = late.encode_query(TEXTS[:2]), late.encode_document(TEXTS)
    block = late.encode_document(TEXTS, ragged=True)
    torch.testing.assert_close(late.similarity(queries, block), late.similarity(queries, documents))


def test_stacking_is_refused_with_the_way_out(late: MultiVectorEncoder) -> None:
    with pytest.raises(ValueError, match="different numbers of tokens.*ragged=True"):
        late.encode(TEXTS, convert_to_tensor=True)


def test_vectors_can_be_scaled_where_the_model_does_not(late: MultiVectorEncoder) -> None:
    model = MultiVectorEncoder(modules=list(late)[:3], prompts=late.prompts, device="cpu")
    raw = model.encode_document(TEXTS)
    assert min(float((row.norm(dim=-1) - 1).abs().max()) for row in raw) > 0.01
    same(model.encode_document(TEXTS, normalize_embeddings=True), [F.normalize(row, dim=-1) for row in raw])
    same(model.encode_document(TEXTS, normalize_embeddings=True), late.encode_document(TEXTS))


# --- token pooling of a call


def test_a_rule_sees_the_vectors_of_one_input(late: MultiVectorEncoder) -> None:
    documents = late.encode_document(TEXTS)
    found = late.encode_document(TEXTS, token_pooling=LambdaTokenPooling(lambda row: row.mean(0, keepdim=True)))
    same(found, [row.mean(0, keepdim=True) for row in documents], 1e-6)
    assert not any(row.is_inference() for row in found)


@pytest.mark.parametrize(("tasks", "fewer"), [(None, (False, True)), (["query"], (True, False))])
def test_a_rule_is_for_its_tasks(tasks: list[str] | None, fewer: tuple[bool, bool], late: MultiVectorEncoder) -> None:
    rule = LambdaTokenPooling(lambda row: row[:1], tasks=tasks)
    for encode, expected in zip((late.encode_query, late.encode_document), fewer, strict=True):
        assert (len(encode(TEXTS[1], token_pooling=rule)) == 1) is expected


def test_vectors_are_scaled_before_they_are_pooled(late: MultiVectorEncoder) -> None:
    """As in the reference: a mean of vectors of length 1 is shorter."""
    model = MultiVectorEncoder(modules=list(late)[:3], prompts=late.prompts, device="cpu")
    rule = LambdaTokenPooling(lambda row: row.mean(0, keepdim=True))
    found = model.encode_document(TEXTS, token_pooling=rule, normalize_embeddings=True)
    same(found, [row.mean(0, keepdim=True) for row in late.encode_document(TEXTS)])


def test_pooling_twice_is_a_warning(late: MultiVectorEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pooled = MultiVectorEncoder(str(heads.build_late("bert", tmp_path, pooled=True)), device="cpu")
    rule = HierarchicalTokenPooling(2)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        late.encode_document(TEXTS, token_pooling=rule)
        pooled.encode_document(TEXTS)
        assert not caplog.text
        twice = pooled.encode_document(TEXTS, token_pooling=rule)
    assert caplog.text.count("This model pools tokens already") == 1
    same(twice, rule.pool(pooled.encode_document(TEXTS)))


def test_a_rule_of_ones_own(late: MultiVectorEncoder) -> None:
    class Every(BaseTokenPooling):
        def pool_one(self, embedding: Tensor) -> Tensor:
            return embedding[::2]

    same(late.encode_document(TEXTS, token_pooling=Every()), [row[::2] for row in late.encode_document(TEXTS)], 0)


# --- all features


def test_all_features_hold_the_vectors_where_the_mask_is_set(late: MultiVectorEncoder) -> None:
    found = late.encode_document(TEXTS, output_value=None, batch_size=2)
    same(
        [item["token_embeddings"][item["attention_mask"].bool()] for item in found],
        late.encode_document(TEXTS, batch_size=2),
    )
    for item, text in zip(found, TEXTS, strict=True):
        ids = [int(i) for i in item["input_ids"] if i != late.tokenizer.pad_token_id]
        assert late.tokenizer.convert_ids_to_tokens(ids) == tokens_of(late, text, "[D] ")
        assert (item["modality"], item["prompt_length"]) == ("text", 4)


def test_all_features_of_an_expanded_query_say_what_was_added(late_folder: Callable[..., Path]) -> None:
    model = MultiVectorEncoder(str(late_folder("fixed")), device="cpu")
    own = len(tokens_of(model, "the cat", "[Q] "))
    item = model.encode_query("the cat", output_value=None)
    assert item["query_expansion_positions"].tolist() == [False] * own + [True] * (16 - own)
    assert item["input_ids"][own:].tolist() == [model.tokenizer.mask_token_id] * (16 - own)
    same([item["token_embeddings"]], [model.encode_query("the cat")])


def test_all_features_of_a_single_input_are_one_dict(late: MultiVectorEncoder) -> None:
    assert isinstance(late.encode("x", output_value=None), dict)
    assert late.encode([], output_value=None) == []


def test_all_features_are_ordinary_tensors_apart_from_one_another(late: MultiVectorEncoder) -> None:
    one, other = late.encode(["x", "x"], output_value=None)
    assert not one["token_embeddings"].is_inference()
    before = other["token_embeddings"].clone()
    one["token_embeddings"].zero_()
    assert torch.equal(other["token_embeddings"], before)


def test_all_features_tell_of_inputs_that_were_cut(late: MultiVectorEncoder, caplog: pytest.LogCaptureFixture) -> None:
    late.encode(["x", "a " * 99], output_value=None)
    assert caplog.text.count("1 of 2 inputs are longer than max_seq_length = 64 tokens") == 1
    with pytest.raises(ValueError, match="1 of 2 inputs are longer"):
        late.encode(["x", "a " * 99], output_value=None, on_truncate="error")


# --- similarity


def test_similarity_is_the_sum_over_the_query_of_the_best_token(late: MultiVectorEncoder) -> None:
    queries, documents = late.encode_query(TEXTS[:3]), late.encode_document(TEXTS)
    slow = torch.tensor(
        [[(q.double() @ d.double().T).amax(1).sum() for d in documents] for q in queries], dtype=torch.float64
    )
    torch.testing.assert_close(late.similarity(queries, documents).double(), slow, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(late.similarity_pairwise(queries, documents[:3]).double(), slow.diagonal()[:3])


def test_the_mean_divides_by_the_tokens_of_the_query(late: MultiVectorEncoder) -> None:
    model = MultiVectorEncoder(modules=list(late), similarity_fn_name="meanmaxsim", device="cpu")
    queries, documents = late.encode_query(TEXTS[:3]), late.encode_document(TEXTS)
    counts = torch.tensor([len(query) for query in queries])[:, None]
    torch.testing.assert_close(model.similarity(queries, documents), late.similarity(queries, documents) / counts)
