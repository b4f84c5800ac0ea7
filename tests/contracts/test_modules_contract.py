"""What every public module promises, checked for each row of the table; a module without a case here fails by name."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers.sentence_transformer.modules import (
    CNN,
    LSTM,
    BoW,
    Dense,
    Dropout,
    InputModule,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
    Router,
    StaticEmbedding,
    Transformer,
    WeightedLayerPooling,
    WordEmbeddings,
    WordWeights,
)
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers._public import MODULES, ROOT

TEXTS = ["the cat sat", "a long river runs down to the sea and the cat sat", "x", "the the dog"]
WORDS = ["PADDING_TOKEN", "the", "cat", "sat", "river", "dog", "x"]
WIDTH = 32


class Doubled(Module):
    """``Module`` itself is abstract: this is the least that a part of a third party defines."""

    config_keys = ["factor"]

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        features["sentence_embedding"] = features["sentence_embedding"] * self.factor
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)


class Lengths(InputModule):
    """``InputModule`` itself reads nothing: this is the least that a first part defines."""

    config_keys = ["width"]

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        return {"lengths": torch.tensor([len((prompt or "") + text) for text in inputs])}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        features["sentence_embedding"] = features["lengths"][:, None].float().repeat(1, self.width)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)


@dataclass(frozen=True)
class Case:
    """A small model around one module.

    parts: the folder of a small BERT -> all parts of the model, in order.
    at: which of them is the module of the case.
    follows: whether the vectors take the type that the model is cast to.
    """

    parts: Callable[[str], list[nn.Module]]
    at: int
    follows: bool = True


def words() -> WordEmbeddings:
    weights = torch.sin(torch.arange(len(WORDS) * 6.0)).view(len(WORDS), 6)
    return WordEmbeddings(WhitespaceTokenizer(WORDS, stop_words=[], do_lower_case=True), weights)


def tokenizer(folder: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(f"{folder}/tokenizer.json")


def layers(folder: str) -> list[nn.Module]:
    deep = Transformer(folder, config_kwargs={"output_hidden_states": True})
    weights = torch.tensor([0.5, 1.0, 2.0])
    return [deep, WeightedLayerPooling(WIDTH, 3, 1, weights), Pooling(WIDTH)]


def routes(folder: str) -> list[nn.Module]:
    shared = Transformer(folder)
    return [Router.for_query_document([shared, Pooling(WIDTH, "cls")], [shared, Pooling(WIDTH)]), Normalize()]


def after_bert(*more: Callable[[], nn.Module]) -> Callable[[str], list[nn.Module]]:
    return lambda folder: [Transformer(folder), Pooling(WIDTH), *(make() for make in more)]


CASES: dict[str, Case] = {
    "Transformer": Case(after_bert(), 0),
    "Pooling": Case(lambda folder: [Transformer(folder), Pooling(WIDTH, ["cls", "max", "weightedmean"])], 1),
    "Dense": Case(after_bert(lambda: Dense(WIDTH, 5, use_residual=True)), 2),
    "Normalize": Case(after_bert(Normalize), 2),
    "LayerNorm": Case(after_bert(lambda: LayerNorm(WIDTH)), 2),
    "Dropout": Case(after_bert(lambda: Dropout(0.5)), 2),
    "Module": Case(after_bert(lambda: Doubled(3.0)), 2),
    "InputModule": Case(lambda folder: [Lengths(4)], 0, follows=False),
    "BoW": Case(lambda folder: [BoW(WORDS[1:], {"cat": 2.5}), Normalize()], 0, follows=False),
    "WordEmbeddings": Case(lambda folder: [words(), Pooling(6)], 0),
    "WordWeights": Case(lambda folder: [words(), WordWeights(WORDS, {"cat": 3.0}, 0.5), Pooling(6)], 1),
    "LSTM": Case(lambda folder: [words(), LSTM(6, 4), Pooling(8)], 1),
    "CNN": Case(lambda folder: [words(), CNN(6, 3, [1, 3]), Pooling(6)], 1),
    "StaticEmbedding": Case(lambda folder: [StaticEmbedding(tokenizer(folder), embedding_dim=7)], 0),
    "WeightedLayerPooling": Case(layers, 1),
    "Router": Case(routes, 0),
    "Asym": Case(routes, 0),
}


@pytest.fixture(scope="module")
def make(tiny_folder: Callable[[str], Path]) -> Callable[[str], SentenceTransformer]:
    """``make(name)``: a new model of the case, the same each time."""

    def build(name: str) -> SentenceTransformer:
        torch.manual_seed(0)
        return SentenceTransformer(modules=CASES[name].parts(str(tiny_folder("bert"))), device="cpu")

    return build


def encode(model: SentenceTransformer, **options: Any) -> Any:
    return model.encode_document(TEXTS, **options)


def part_of(model: SentenceTransformer, name: str) -> Any:
    return model[CASES[name].at]


@pytest.fixture(params=sorted(CASES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- the table and the cases


@pytest.mark.parametrize("public", MODULES)
def test_every_public_module_has_a_case(public: str) -> None:
    assert public in CASES, f"add a case for {public} to CASES in {Path(__file__).name}"


def test_every_case_is_of_a_public_module() -> None:
    assert set(CASES) <= set(MODULES)


def test_the_case_is_about_its_module(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    file, _ = MODULES[name]
    kind = getattr(importlib.import_module(f"{ROOT}.{file}"), name)
    assert isinstance(part_of(make(name), name), kind)


# --- config


def test_the_saved_config_is_the_config(name: str, make: Callable[[str], SentenceTransformer], tmp_path: Path) -> None:
    part = part_of(make(name), name)
    part.save(str(tmp_path))
    config = json.loads(json.dumps(part.get_config_dict()))
    saved = type(part).load_config(str(tmp_path))
    assert (saved["parameters"] if isinstance(part, Router) else saved) == config


def test_a_module_made_of_its_config_has_that_config(
    name: str, make: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    part = part_of(make(name), name)
    part.save(str(tmp_path))
    again = type(part).load(str(tmp_path), trust_remote_code=True)
    assert type(again) is type(part)
    assert json.dumps(again.get_config_dict()) == json.dumps(part.get_config_dict())


def test_the_config_has_the_keys_the_class_says(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    part = part_of(make(name), name)
    if part.config_keys:
        assert list(part.get_config_dict()) == list(part.config_keys)


def test_the_text_of_a_module_starts_with_its_class(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    part = part_of(make(name), name)
    assert repr(part).startswith(f"{type(part).__name__}(")


# --- save and load


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "pickle"])
def test_a_module_gives_the_same_vectors_after_save_and_load(
    safe: bool, name: str, make: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    model = make(name)
    model.save(str(tmp_path), safe_serialization=safe)
    again = SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    assert [type(part) for part in again] == [type(part) for part in model]
    assert_array_equal(encode(again), encode(model))


def test_loaded_weights_are_the_saved_ones(
    name: str, make: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    part = part_of(make(name), name)
    part.save(str(tmp_path))
    saved, loaded = part.state_dict(), type(part).load(str(tmp_path), trust_remote_code=True).state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(value, loaded[key]) for key, value in saved.items())


def test_a_module_in_a_folder_of_its_own_is_loaded_from_there(
    name: str, make: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    part = part_of(make(name), name)
    (tmp_path / "7_Part").mkdir()
    part.save(str(tmp_path / "7_Part"))
    again = type(part).load(str(tmp_path), subfolder="7_Part", trust_remote_code=True)
    assert json.dumps(again.get_config_dict()) == json.dumps(part.get_config_dict())
    assert again.state_dict().keys() == part.state_dict().keys()


# --- types


@pytest.mark.parametrize(
    ("dtype", "off"),
    [(torch.float64, 1e-5), (torch.float32, 2e-6), (torch.float16, 0.01), (torch.bfloat16, 0.08)],
    ids=["float64", "float32", "float16", "bfloat16"],
)
def test_a_module_computes_in_every_type(
    dtype: torch.dtype, off: float, name: str, make: Callable[[str], SentenceTransformer]
) -> None:
    expected = encode(make(name)).astype(np.float64)
    vectors = encode(make(name).to(dtype), convert_to_tensor=True)
    assert vectors.dtype == (dtype if CASES[name].follows else torch.float32)
    assert_allclose(vectors.double().numpy(), expected, rtol=0, atol=off * max(1.0, np.abs(expected).max()))


# --- layouts and batches


def test_packed_equals_padded(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    model = make(name)
    with torch.inference_mode():
        padded = model(model.preprocess(TEXTS, task="document"), task="document")["sentence_embedding"]
    assert_allclose(encode(model), padded.numpy(), rtol=0, atol=2e-6 * max(1.0, padded.abs().max().item()))


def test_the_neighbours_do_not_matter(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    model = make(name)
    alone = np.stack([model.encode_document(text) for text in TEXTS])
    assert_allclose(encode(model), alone, rtol=0, atol=2e-6 * max(1.0, np.abs(alone).max()))


def test_a_long_neighbour_does_not_matter(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    """A long text pads the others; nothing of the padding may reach their vectors."""
    model = make(name)
    long = " ".join(["the cat sat"] * 9)
    assert_allclose(
        model.encode_document([*TEXTS, long])[: len(TEXTS)],
        encode(model),
        rtol=0,
        atol=2e-6 * max(1.0, np.abs(encode(model)).max()),
    )


# --- empty inputs


@pytest.mark.parametrize("empty", [[], ()], ids=["list", "tuple"])
def test_no_inputs_give_no_vectors(empty: Any, name: str, make: Callable[[str], SentenceTransformer]) -> None:
    assert make(name).encode_document(empty).shape == (0,)


def test_an_empty_text_has_a_finite_vector(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    model = make(name)
    vectors = model.encode_document(["", TEXTS[0], ""])
    assert np.isfinite(vectors).all()
    assert_array_equal(vectors[0], vectors[2])
    assert_allclose(vectors[1], encode(model)[0], rtol=0, atol=2e-6 * max(1.0, np.abs(vectors).max()))


# --- as a torch module


def test_a_copy_gives_the_same_vectors(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    model = make(name)
    assert_array_equal(encode(copy.deepcopy(model)), encode(model))


def test_inference_changes_no_weights(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    model = make(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    encode(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_width_a_module_tells_is_that_of_its_vectors(name: str, make: Callable[[str], SentenceTransformer]) -> None:
    model = make(name)
    width = model.get_embedding_dimension()
    assert width in (None, encode(model).shape[1])
    assert (width is None) == (name == "InputModule")  # only the least of all first parts does not tell
