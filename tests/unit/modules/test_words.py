"""Parts that work with whole words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sentence_transformers.errors import ModelFileError, UntrustedCodeError
from sentence_transformers.modules import words
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.tokenizers import PhraseTokenizer, WhitespaceTokenizer, WordTokenizer
from sentence_transformers.modules.words import BoW, WordEmbeddings, WordWeights
from sentence_transformers.ops.tokens import Packed, TokenIds

VOCAB = ["PADDING_TOKEN", "hello", "world", "foo"]
VECTORS = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
TEXTS = ["hello world", "foo foo foo hello", "zz", ""]


def embeddings(**settings: Any) -> WordEmbeddings:
    return WordEmbeddings(WhitespaceTokenizer(VOCAB, stop_words=()), VECTORS, **settings)


# --- BoW


def test_bow_sums_the_weights_of_its_words() -> None:
    bow = BoW(["hello", "World", "foo"], {"world": 2.5, "Foo": 3}, unknown_word_weight=0.5)
    out = bow(bow.preprocess(["hello hello World xx", "foo Foo.", ""]))["sentence_embedding"]
    assert out.tolist() == [[1.0, 2.5, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_bow_may_count_a_word_once() -> None:
    bow = BoW(["hello", "world"], {"hello": 2}, cumulative_term_frequency=False)
    assert bow.preprocess(["hello hello world"])["sentence_embedding"].tolist() == [[2.0, 1.0]]


def test_bow_takes_a_repeated_word_once() -> None:
    bow = BoW(["hello", "world", "hello"])
    assert (bow.vocab, bow.get_embedding_dimension()) == (["hello", "world"], 2)


def test_bow_puts_the_prompt_before_each_text() -> None:
    assert BoW(["a", "b"]).preprocess(["b"], prompt="a ")["sentence_embedding"].tolist() == [[1.0, 1.0]]


def test_bow_prepares_batches_of_any_rows() -> None:
    bow = BoW(["a", "b"])
    prepared = bow.prepare(["a b a", "b", ""])
    assert prepared.sizes.tolist() == [3, 1, 0]
    assert prepared.batch(np.array([2, 0]))["sentence_embedding"].tolist() == [[0.0, 0.0], [2.0, 1.0]]


def test_bow_takes_numbers_of_words() -> None:
    assert BoW(["a", "b"]).get_sentence_features([[0, 0], [1]])["sentence_embedding"].tolist() == [
        [2.0, 0.0],
        [0.0, 1.0],
    ]


def test_bow_is_the_same_after_loading(tmp_path: Path) -> None:
    BoW(["a", "b"], {"a": 2.0}, 0.5, False).save(str(tmp_path))
    expected = {"vocab": ["a", "b"], "word_weights": {"a": 2.0}, "unknown_word_weight": 0.5}
    assert json.loads((tmp_path / "config.json").read_text()) == {**expected, "cumulative_term_frequency": False}
    assert BoW.load(str(tmp_path)).preprocess(["a b b"])["sentence_embedding"].tolist() == [[2.0, 0.5]]
    assert not BoW.save_in_root


# --- WordEmbeddings


def test_word_embeddings_pad_and_look_up() -> None:
    features = embeddings(max_seq_length=3).preprocess(TEXTS)
    assert features["input_ids"].tolist() == [[1, 2, 0], [3, 3, 3], [0, 0, 0], [0, 0, 0]]
    assert features["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert features["sentence_lengths"].tolist() == [2, 3, 0, 0]
    out = embeddings()(features)
    assert torch.equal(out["token_embeddings"][0], torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]))
    assert out["cls_token_embeddings"] is None


@pytest.mark.parametrize("texts", [[""], []])
def test_texts_without_words_have_one_masked_token(texts: list[str]) -> None:
    features = embeddings()(embeddings().preprocess(texts))
    assert features["token_embeddings"].shape == (len(texts), 1, 2)
    assert not features["attention_mask"].any()


def test_prepared_batches_equal_padded_ones_after_pooling() -> None:
    part, pooling = embeddings(), Pooling(2, ("mean", "lasttoken", "mean_sqrt_len_tokens"))
    prepared = part.prepare(TEXTS)
    assert prepared.sizes.tolist() == [2, 4, 0, 0]
    packed = part(prepared.batch(np.arange(4)))
    assert isinstance(packed["token_embeddings"], Packed)
    padded = part(part.preprocess(TEXTS))
    assert_close(pooling(packed)["sentence_embedding"], pooling(padded)["sentence_embedding"])


def test_prepare_counts_texts_that_are_cut() -> None:
    prepared = embeddings(max_seq_length=3).prepare(TEXTS)
    assert (len(prepared.cut), prepared.limit) == (1, 3)


def test_word_embeddings_learn_only_when_told() -> None:
    assert not embeddings().emb_layer.weight.requires_grad
    assert embeddings(update_embeddings=True).emb_layer.weight.requires_grad


def test_word_embeddings_are_the_same_after_loading(tmp_path: Path) -> None:
    embeddings(update_embeddings=True, max_seq_length=7).save(str(tmp_path))
    assert json.loads((tmp_path / "wordembedding_config.json").read_text()) == {
        "tokenizer_class": "sentence_transformers.models.tokenizer.WhitespaceTokenizer",
        "update_embeddings": True,
        "max_seq_length": 7,
    }
    loaded = WordEmbeddings.load(str(tmp_path))
    assert torch.equal(loaded.emb_layer.weight, VECTORS)
    assert (loaded.max_seq_length, loaded.update_embeddings) == (7, True)
    assert loaded.tokenizer.tokenize("foo") == [3]


def set_tokenizer(folder: Path, name: str) -> str:
    path = folder / "wordembedding_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": name}))
    return str(folder)


@pytest.mark.parametrize(
    "home", ["models.tokenizer.WhitespaceTokenizer", "sentence_transformer.modules.tokenizer.whitespace"]
)
def test_every_path_a_version_gave_a_tokenizer_loads(tmp_path: Path, home: str) -> None:
    embeddings().save(str(tmp_path))
    folder = set_tokenizer(tmp_path, f"sentence_transformers.{home}.WhitespaceTokenizer")
    assert isinstance(WordEmbeddings.load(folder).tokenizer, WhitespaceTokenizer)


def test_phrase_embeddings_are_the_same_after_loading(tmp_path: Path) -> None:
    WordEmbeddings(PhraseTokenizer(VOCAB), VECTORS).save(str(tmp_path))
    assert isinstance(WordEmbeddings.load(str(tmp_path)).tokenizer, PhraseTokenizer)


def test_a_foreign_tokenizer_needs_trust(tmp_path: Path) -> None:
    embeddings().save(str(tmp_path))
    with pytest.raises(UntrustedCodeError, match="trust_remote_code=True"):
        WordEmbeddings.load(set_tokenizer(tmp_path, "os.path"))


@pytest.mark.parametrize("name", ["Foo", "Any", "WhitespaceTokenizer.x"])
def test_an_unknown_tokenizer_of_ours_is_named(tmp_path: Path, name: str) -> None:
    embeddings().save(str(tmp_path))
    with pytest.raises(ModelFileError, match=name):
        WordEmbeddings.load(set_tokenizer(tmp_path, f"sentence_transformers.models.tokenizer.{name}"))


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="wordembedding_config.json"):
        WordEmbeddings.load(str(tmp_path))


class Letters(WordTokenizer):
    """A tokenizer of somebody else."""

    def set_vocab(self, vocab: Any) -> None: ...
    def get_vocab(self) -> Any: ...
    def save(self, output_path: str) -> None: ...

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        return [ord(letter) - ord("a") for letter in text]

    @classmethod
    def load(cls, input_path: str) -> Any: ...


def test_a_tokenizer_of_somebody_else_works_and_is_saved_by_its_path() -> None:
    part = WordEmbeddings(Letters(), VECTORS)
    assert part.preprocess(["cab"])["input_ids"].tolist() == [[2, 0, 1]]
    assert part.get_config_dict()["tokenizer_class"] == f"{__name__}.Letters"


# --- from_text_file


def written(folder: Path, text: str, name: str = "v.txt") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz"])
@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_vectors_are_read_with_and_without_header(tmp_path: Path, name: str, header: str) -> None:
    part = WordEmbeddings.from_text_file(written(tmp_path, f"{header}hello 1 2\nwörld 3 4\nfoo 5 6\n", name))
    assert part.tokenizer.get_vocab() == ["PADDING_TOKEN", "hello", "wörld", "foo"]
    assert torch.equal(part.emb_layer.weight, VECTORS)
    assert part.tokenizer.tokenize("the foo") == [3]


def test_max_vocab_size_keeps_the_first_words(tmp_path: Path) -> None:
    part = WordEmbeddings.from_text_file(written(tmp_path, "3 2\nhello 1 2\nworld 3 4\nfoo 5 6\n"), max_vocab_size=2)
    assert part.tokenizer.get_vocab() == VOCAB[:3]


def test_lines_of_another_width_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = WordEmbeddings.from_text_file(written(tmp_path, "hello 1 2\n\n. . 3 4\nworld 3 4 5\nfoo 5 6\n"))
    assert part.tokenizer.get_vocab() == ["PADDING_TOKEN", "hello", "foo"]
    assert "skipped 2 lines" in caplog.text


def test_separator_tokenizer_and_updates_are_taken(tmp_path: Path) -> None:
    tokenizer = WhitespaceTokenizer(stop_words=["q"])
    part = WordEmbeddings.from_text_file(written(tmp_path, "hello\t1\t2\na b\t3\t4\n"), True, "\t", tokenizer)
    assert part.tokenizer is tokenizer
    assert tokenizer.get_vocab() == ["PADDING_TOKEN", "hello", "a b"]
    assert part.emb_layer.weight.requires_grad


@pytest.mark.parametrize("text, problem", [("a 1 2\nb 3 x\n", "line 2"), ("", "no vectors")])
def test_a_damaged_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        WordEmbeddings.from_text_file(written(tmp_path, text))


def test_a_missing_path_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not found"):
        WordEmbeddings.from_text_file(str(tmp_path / "nope.txt"))


def test_a_missing_name_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def get(url: str, path: str) -> None:
        assert url.startswith("https://") and url.endswith("/v.txt")
        Path(path).write_text("hello 1 2\n")

    monkeypatch.setattr(words, "http_get", get)
    assert WordEmbeddings.from_text_file("v.txt").get_embedding_dimension() == 2


# --- WordWeights


def test_word_weights_scale_tokens_and_sum_up() -> None:
    part = WordWeights(["a", "B", "c"], {"a": 2.0, "b": 3.0}, 0.25)
    features = part(
        {
            "input_ids": torch.tensor([[0, 1, 2], [2, 0, 0]]),
            "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
            "token_embeddings": torch.ones(2, 3, 1),
        }
    )
    assert features["token_embeddings"][..., 0].tolist() == [[2.0, 3.0, 0.25], [0.25, 2.0, 0.0]]
    assert features["token_weights_sum"].tolist() == [5.25, 2.25]


def test_word_weights_on_packed_equal_padded() -> None:
    part = WordWeights(VOCAB, {"hello": 2.0, "foo": 0.5}, 0.25)
    source, pooling = embeddings(), Pooling(2)
    packed = part(source(source.prepare(TEXTS).batch(np.arange(4))))
    padded = part(source(source.preprocess(TEXTS)))
    assert_close(packed["token_weights_sum"], padded["token_weights_sum"])
    assert_close(pooling(packed)["sentence_embedding"], pooling(padded)["sentence_embedding"])
    assert isinstance(packed["tokens"], TokenIds)


def test_learned_word_weights_are_the_same_after_loading(tmp_path: Path) -> None:
    part = WordWeights(["a", "b"], {"a": 2.0})
    with torch.no_grad():
        part.emb_layer.weight[1] = 7
    part.save(str(tmp_path))
    assert WordWeights.load(str(tmp_path)).emb_layer.weight.flatten().tolist() == [2.0, 7.0]


def test_gradients_reach_the_word_weights() -> None:
    part = WordWeights(["a", "b"], {})
    values = Packed(torch.ones(2, 3), (2,))
    part({"tokens": TokenIds(torch.tensor([0, 1]), (2,)), "token_embeddings": values})[
        "token_embeddings"
    ].values.sum().backward()
    assert part.emb_layer.weight.grad is not None
    assert part.emb_layer.weight.grad.flatten().tolist() == [3.0, 3.0]
