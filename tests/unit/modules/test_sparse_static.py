"""Inference-free sparse vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.sparse_static import SparseStaticEmbedding

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"]
WEIGHT = torch.arange(8.0) / 2


def rust() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return made


def tokenizer(limit: int = 6, **settings: Any) -> PreTrainedTokenizerFast:
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=rust(), model_max_length=limit, **names, **settings)


def part(**settings: Any) -> SparseStaticEmbedding:
    return SparseStaticEmbedding(tokenizer(), **{"weight": WEIGHT, **settings})


def encode(module: SparseStaticEmbedding, *texts: Any) -> list[list[float]]:
    """By the padded route."""
    vectors: Tensor = module(module.preprocess(texts))["sentence_embedding"]
    return vectors.tolist()


def infer(module: SparseStaticEmbedding, *texts: Any) -> list[list[float]]:
    """By the route of the engine."""
    with torch.inference_mode():
        vectors: Tensor = module(module.prepare(texts).batch(np.arange(len(texts))))["sentence_embedding"]
    return vectors.tolist()


def vector(**weights: float) -> list[float]:
    return [weights.get(word, 0.0) for word in WORDS]


def test_every_token_counts_once() -> None:
    expected = [vector(a=2, b=2.5), vector(**{"d": 3.5, "[UNK]": 0.5}), vector()]
    assert encode(part(), "a b a", "d z z", "") == expected


def test_the_engine_gives_the_same() -> None:
    texts = ["a b a", "d z z", "", "c", "a a a a a a a a a"]
    assert infer(part(), *texts) == encode(part(), *texts)


def test_no_texts_give_no_rows() -> None:
    assert encode(part()) == infer(part()) == []


def test_features_are_padded_without_special_tokens() -> None:
    features = part().preprocess(["a b a", "d"])
    assert features["input_ids"].tolist() == [[4, 5, 4], [7, 0, 0]]
    assert features["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_padding_does_not_count_as_a_token() -> None:
    module = part(weight=torch.ones(8))
    assert encode(module, "a b", "c")[1] == vector(c=1)


def test_a_sequence_without_a_mask_counts_whole() -> None:
    assert part()({"input_ids": torch.tensor([[4, 5]])})["sentence_embedding"].tolist() == [vector(a=2, b=2.5)]


def test_a_pair_counts_as_one_text() -> None:
    assert infer(part(), ("a b", "c")) == encode(part(), ("a b", "c")) == [vector(a=2, b=2.5, c=3)]


def test_the_prompt_counts() -> None:
    assert part().preprocess(["a"], prompt="c ")["input_ids"].tolist() == [[6, 4]]


def test_long_texts_are_cut_at_the_limit_of_the_tokenizer() -> None:
    module = SparseStaticEmbedding(tokenizer(limit=2))
    assert module.max_seq_length == 2
    assert encode(module, "a b c d") == [vector(a=1, b=1)]
    prepared = module.prepare(["a b c d", "a b"])
    assert (prepared.sizes.tolist(), list(prepared.cut), prepared.limit) == ([2, 2], [0], 2)


def test_the_limit_can_be_changed() -> None:
    module = SparseStaticEmbedding(tokenizer(limit=2))
    module.max_seq_length = 3
    assert module.tokenizer.model_max_length == 3
    assert infer(module, "a b c d") == [vector(a=1, b=1, c=1)]
    module.max_seq_length = None
    assert module.max_seq_length is None
    assert infer(module, "a b c d") == [vector(a=1, b=1, c=1, d=1)]


def test_truncation_and_padding_on_the_left() -> None:
    module = SparseStaticEmbedding(tokenizer(limit=2, truncation_side="left", padding_side="left"))
    assert module.preprocess(["a b c d", "a"])["input_ids"].tolist() == [[6, 7], [0, 4]]


def test_weights_multiply_what_is_there() -> None:
    features = part().preprocess(["a b"])
    features["sentence_embedding"] = torch.arange(8.0)[None]
    assert part()(features)["sentence_embedding"].tolist() == [vector(a=8, b=12.5)]


def test_the_weight_of_every_token_is_one_by_default() -> None:
    module = SparseStaticEmbedding(tokenizer())
    assert module.weight.tolist() == [1.0] * 8
    assert module.get_embedding_dimension() == 8


def test_added_tokens_have_a_weight() -> None:
    larger = tokenizer()
    larger.add_tokens(["new"])
    module = SparseStaticEmbedding(larger)
    assert module.get_embedding_dimension() == 9
    assert encode(module, "new a")[0] == [*vector(a=1), 1.0]


@pytest.mark.parametrize("count", [1, 3])
def test_each_row_has_the_gradient_of_its_tokens(count: int) -> None:
    module = part()
    vectors = module(module.preprocess(["a " * count, "a b"]))["sentence_embedding"]
    (vectors * torch.tensor([[10.0], [1.0]])).sum().backward()
    assert module.weight.grad is not None
    assert module.weight.grad.tolist() == vector(a=11, b=1)


def test_frozen_weights_are_not_trained() -> None:
    module = part(frozen=True)
    assert (module.frozen, module.weight.requires_grad) == (True, False)
    assert encode(module, "a") == [vector(a=2)]


def test_training_does_not_write_into_the_callers_array() -> None:
    array = np.ones(8, dtype=np.float32)
    with torch.no_grad():
        part(weight=array).weight.zero_()
    assert array.all()


@pytest.mark.parametrize("given", [[1] * 8, np.ones(8, dtype=np.int64), torch.ones(8, dtype=torch.int32)])
def test_whole_numbers_become_float32(given: Any) -> None:
    assert part(weight=given).weight.dtype == torch.float32


def test_half_weights_give_half_vectors() -> None:
    module = part().half()
    assert module(module.preprocess(["a"]))["sentence_embedding"].dtype == torch.float16


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(V,\); got \(8, 1\)"):
        part(weight=torch.ones(8, 1))


def test_too_few_weights_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    assert part(weight=torch.ones(5)).get_embedding_dimension() == 5
    assert "5 weights for the 8 tokens" in caplog.text


def test_a_rust_tokenizer_will_do() -> None:
    module = SparseStaticEmbedding(rust())
    assert module.max_seq_length is None
    assert encode(module, "a b") == [vector(a=1, b=1)]


def test_a_python_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="must be fast"):
        SparseStaticEmbedding("x")


def test_the_callers_tokenizer_keeps_its_special_tokens() -> None:
    given = tokenizer()
    SparseStaticEmbedding(given).preprocess(["a"])
    assert given("a")["input_ids"] == [2, 4, 3]


def test_a_tokenizer_can_be_replaced() -> None:
    module = part()
    module.tokenizer = tokenizer(limit=1)
    assert module.max_seq_length == 1
    assert infer(module, "a b") == [vector(a=2)]


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_saved_and_loaded(tmp_path: Path, safe: bool, frozen: bool) -> None:
    part(frozen=frozen).save(str(tmp_path), safe_serialization=safe)
    assert json.loads((tmp_path / "config.json").read_text()) == {"frozen": frozen}
    loaded = SparseStaticEmbedding.load(str(tmp_path))
    assert (loaded.frozen, loaded.weight.requires_grad, loaded.max_seq_length) == (frozen, not frozen, 6)
    assert infer(loaded, "a b a z") == encode(loaded, "a b a z") == encode(part(), "a b a z")


def test_loaded_and_saved_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    part().save(str(first))
    SparseStaticEmbedding.load(str(first)).save(str(second))
    assert infer(SparseStaticEmbedding.load(str(second)), "a b") == [vector(a=2, b=2.5)]


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    part().save(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match="No weights"):
        SparseStaticEmbedding.load(str(tmp_path))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no folder 'none'"):
        SparseStaticEmbedding.load(str(tmp_path), subfolder="none")


def write_json(path: Path, value: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
    return str(path)


def test_weights_from_json(tmp_path: Path) -> None:
    path = write_json(tmp_path / "mine.json", {"a": 2.5, "b": 1, "unheard of": 9})
    module = SparseStaticEmbedding.from_json(path, tokenizer(), frozen=True)
    assert module.weight.tolist() == vector(a=2.5, b=1)
    assert module.frozen


def test_weights_from_the_json_of_a_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "idf.json", {"c": 3})
    assert SparseStaticEmbedding.from_json(tmp_path, tokenizer()).weight.tolist() == vector(c=3)


def test_a_missing_json_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="IDF JSON file not found at"):
        SparseStaticEmbedding.from_json(str(tmp_path / "none.json"), tokenizer())
    with pytest.raises(ValueError, match="IDF JSON file not found at"):
        SparseStaticEmbedding.from_json(str(tmp_path), tokenizer())


@pytest.mark.parametrize("wrong", ["much", True, None, [1.0]])
def test_a_weight_that_is_no_number_is_reported(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ModelFileError, match="expected a number as the weight of 'a'"):
        SparseStaticEmbedding.from_json(write_json(tmp_path / "idf.json", {"a": wrong}), tokenizer())


@pytest.mark.parametrize("beside", [True, False])
def test_an_old_config_names_a_json_file(tmp_path: Path, beside: bool) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer().save_pretrained(str(folder))
    path = write_json((folder if beside else tmp_path) / "idf.json", {"a": 7})
    write_json(folder / "config.json", {"path": "some/where/idf.json" if beside else path, "frozen": True})
    loaded = SparseStaticEmbedding.load(str(folder))
    assert loaded.weight.tolist() == vector(a=7)
    assert loaded.frozen
