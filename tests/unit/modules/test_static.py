"""Static embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules import static
from sentence_transformers.modules.static import StaticEmbedding

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e"]
ROWS = torch.arange(18.0).view(9, 2)


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return made


def part(weights: Tensor = ROWS) -> StaticEmbedding:
    return StaticEmbedding(tokenizer(), weights)


def encode(module: StaticEmbedding, *texts: str) -> Tensor:
    vectors: Tensor = module(module.preprocess(texts))["sentence_embedding"]
    return vectors.detach()


def test_features_are_flat_without_special_tokens() -> None:
    features = part().preprocess(["a b c d", "z", "", "a"])
    assert features["input_ids"].tolist() == [4, 5, 6, 7, 1, 4]
    assert features["offsets"].tolist() == [0, 4, 5, 5]


def test_a_text_is_the_mean_of_its_tokens() -> None:
    assert encode(part(), "a b", "z", "", "a").tolist() == [[9.0, 10.0], [2.0, 3.0], [0.0, 0.0], [8.0, 9.0]]


def test_the_prompt_stands_before_each_text() -> None:
    assert part().preprocess(["b"], prompt="a ")["input_ids"].tolist() == [4, 5]


def test_no_texts_give_no_rows() -> None:
    assert part()(part().preprocess([]))["sentence_embedding"].shape == (0, 2)


def test_a_pair_counts_as_one_text() -> None:
    features = part().preprocess([("a b", "c"), ["d", "d"]])
    assert features["input_ids"].tolist() == [4, 5, 6, 7, 7]
    assert features["offsets"].tolist() == [0, 3]


def test_a_lone_surrogate_is_read_as_an_unknown_sign() -> None:
    assert part().preprocess(["a \ud800 b"])["input_ids"].tolist() == [4, 1, 5]


def test_prepared_batches_equal_preprocessed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "CHUNK", 2)  # several chunks
    texts = ["a b c", "", "d", "z e", "b"]
    module = part()
    prepared = module.prepare(texts, prompt="c ")
    assert prepared.sizes.tolist() == [4, 1, 2, 3, 2]
    batch = prepared.batch(np.array([3, 1, 0]))
    expected = module.preprocess([texts[3], texts[1], texts[0]], prompt="c ")
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["offsets"], expected["offsets"])


def test_texts_may_have_any_length() -> None:
    module = part()
    assert module.max_seq_length == math.inf
    prepared = module.prepare(["a " * 10_000])
    assert (prepared.sizes.tolist(), len(prepared.cut), prepared.limit) == ([10_000], 0, None)


def test_truncation_of_the_tokenizer_itself_is_kept_and_counted() -> None:
    cutting = tokenizer()
    cutting.enable_truncation(2)
    prepared = StaticEmbedding(cutting, ROWS).prepare(["a b c", "a b"])
    assert (prepared.sizes.tolist(), len(prepared.cut), prepared.limit) == ([2, 2], 1, 2)


def test_padding_of_the_tokenizer_is_switched_off() -> None:
    padding = tokenizer()
    padding.enable_padding(length=5)
    assert StaticEmbedding(padding, ROWS).preprocess(["a"])["input_ids"].tolist() == [4]


def test_random_vectors_have_the_given_width() -> None:
    module = StaticEmbedding(tokenizer(), embedding_dim=3)
    assert module.embedding.weight.shape == (9, 3)
    assert module.get_embedding_dimension() == 3
    assert list(module.state_dict()) == ["embedding.weight"]


def test_weights_or_a_width_are_needed() -> None:
    with pytest.raises(ValueError, match="Either `embedding_weights` or `embedding_dim`"):
        StaticEmbedding(tokenizer())


def test_a_python_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="must be fast"):
        StaticEmbedding("x", ROWS)


@pytest.mark.parametrize(
    "given, kept", [("float16", torch.float16), ("float64", torch.float64), ("int8", torch.float32)]
)
def test_floats_keep_their_type_and_integers_become_float32(given: str, kept: torch.dtype) -> None:
    module = StaticEmbedding(tokenizer(), np.ones((9, 2), dtype=given))
    assert module.embedding.weight.dtype == kept
    assert encode(module, "a b").tolist() == [[1.0, 1.0]]


def test_training_does_not_write_into_the_callers_array() -> None:
    array = np.zeros((9, 2), dtype=np.float32)
    module = StaticEmbedding(tokenizer(), array)
    with torch.no_grad():
        module.embedding.weight.fill_(1)
    assert not array.any()


def test_gradients_reach_only_the_tokens_read() -> None:
    module = part()
    module(module.preprocess(["a b"]))["sentence_embedding"].sum().backward()
    assert module.embedding.weight.grad is not None
    assert module.embedding.weight.grad.sum(1).nonzero().flatten().tolist() == [4, 5]


def test_too_few_vectors_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    part(ROWS[:5])
    assert "5 vectors for the 9 tokens" in caplog.text


@pytest.mark.parametrize("safe", [True, False])
def test_a_static_embedding_is_the_same_after_loading(tmp_path: Path, safe: bool) -> None:
    part().save(str(tmp_path), safe_serialization=safe)
    weights = "model.safetensors" if safe else "pytorch_model.bin"
    assert sorted(path.name for path in tmp_path.iterdir()) == [weights, "tokenizer.json"]
    assert torch.equal(encode(StaticEmbedding.load(str(tmp_path)), "a b z"), encode(part(), "a b z"))


def test_the_old_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "0_StaticEmbedding").mkdir()
    part().save(str(tmp_path / "0_StaticEmbedding"))
    assert torch.equal(StaticEmbedding.load(str(tmp_path)).embedding.weight, ROWS)


def stored(folder: Path, weights: Mapping[str, Tensor]) -> str:
    tokenizer().save(str(folder / "tokenizer.json"))
    save_file(dict(weights), folder / "model.safetensors")
    return str(folder)


def test_vectors_of_model2vec_load(tmp_path: Path) -> None:
    assert torch.equal(StaticEmbedding.from_model2vec(stored(tmp_path, {"embeddings": ROWS})).embedding.weight, ROWS)


def test_shared_and_scaled_rows_of_model2vec_load(tmp_path: Path) -> None:
    mapping = torch.tensor([0, 1, 2] * 3)
    scale = torch.arange(9.0).double()
    weights = {"embeddings": ROWS[:3].half(), "mapping": mapping, "weights": scale}
    module = StaticEmbedding.load(stored(tmp_path, weights))
    assert module.embedding.weight.dtype == torch.float32
    assert_close(module.embedding.weight.detach(), ROWS[:3].repeat(3, 1) * torch.arange(9.0)[:, None])


@pytest.mark.parametrize(
    "weights", [{"foo": ROWS}, {"embeddings": ROWS[0]}, {"embeddings": ROWS, "weights": ROWS[:3, 0]}]
)
def test_weights_that_are_no_vectors_are_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    weights = {key: value.clone() for key, value in weights.items()}
    with pytest.raises(ModelFileError, match="expected"):
        StaticEmbedding.load(stored(tmp_path, weights))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        StaticEmbedding.load(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    save_file({"embeddings": ROWS}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json is damaged"):
        StaticEmbedding.load(str(tmp_path))
