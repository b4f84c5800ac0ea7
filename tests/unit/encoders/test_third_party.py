"""Modules of other authors: features dict in, features dict out, in the form of every version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers.sentence_transformer.modules import InputModule, Module, Pooling, Transformer
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.errors import UntrustedCodeError
from tests.unit.encoders.folders import TEXTS, WIDTH, read_json


class Scale(Module):
    """In the present form: config keys, and an argument of ``forward``."""

    config_keys = ["factor"]
    forward_kwargs = {"boost"}

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor
        self.seen: list[dict[str, Any]] = []
        self.ready: list[Any] = []

    def forward(self, features: dict[str, Any], boost: float = 1.0, **kwargs: Any) -> dict[str, Any]:
        self.seen.append(dict(features))
        features["sentence_embedding"] = features["sentence_embedding"] * self.factor * boost
        return features

    def on_model_ready(self, model: Any) -> None:
        self.ready.append(model)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)


class Plain(nn.Module):
    """In the form of before version 5: a torch module with ``save(path)`` and ``load(path)``."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.width, self.linear = width, nn.Linear(width, 6)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        features["sentence_embedding"] = self.linear(features["sentence_embedding"])
        return features

    def save(self, path: str) -> None:
        (Path(path) / "plain.json").write_text(json.dumps({"width": self.width}), encoding="utf-8")
        torch.save(self.state_dict(), Path(path) / "weights.bin")

    @staticmethod
    def load(path: str) -> Plain:
        made = Plain(**read_json(Path(path) / "plain.json"))
        made.load_state_dict(torch.load(Path(path) / "weights.bin", weights_only=True))
        return made

    def get_sentence_embedding_dimension(self) -> int:
        return 6


class TokenMean(nn.Module):
    """Reads padded tokens and their mask itself, as its author knows them from the features dict."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        mask = features["attention_mask"][..., None].to(features["token_embeddings"].dtype)
        features["sentence_embedding"] = (features["token_embeddings"] * mask).sum(1) / mask.sum(1)
        return features


class Letters(InputModule):
    """A first module that defines only ``tokenize``, in the old way."""

    config_keys = ["width"]
    save_in_root = False

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width

    def tokenize(self, texts: Any, **kwargs: Any) -> dict[str, Any]:
        return {"lengths": torch.tensor([len(text) for text in texts])}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        features["sentence_embedding"] = features["lengths"][:, None].float().repeat(1, self.width)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)

    def get_embedding_dimension(self) -> int:
        return self.width


class NewLetters(Letters):
    """A first module that defines ``preprocess``."""

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        return {"lengths": torch.tensor([len((prompt or "") + text) for text in inputs])}


class Duck(nn.Module):
    """A first module that is no ``InputModule``: a torch module with ``tokenize``."""

    def tokenize(self, texts: Any) -> dict[str, Any]:
        return {"lengths": torch.tensor([len(text) for text in texts])}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        features["sentence_embedding"] = features["lengths"][:, None].float().repeat(1, 3)
        return features

    def save(self, path: str) -> None:
        (Path(path) / "duck.json").write_text("{}", encoding="utf-8")

    @staticmethod
    def load(path: str) -> Duck:
        assert (Path(path) / "duck.json").is_file()
        return Duck()


@pytest.fixture
def transformer(bert_folder: Path) -> Transformer:
    return Transformer(str(bert_folder))


def with_last(transformer: Transformer, last: nn.Module) -> SentenceTransformer:
    return SentenceTransformer(modules=[transformer, Pooling(WIDTH), last], device="cpu")


def reopened(model: SentenceTransformer, folder: Path) -> SentenceTransformer:
    model.save(str(folder))
    return SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)


# --- modules that come later


def test_a_module_works_on_the_vectors(transformer: Transformer, bert: SentenceTransformer) -> None:
    assert_allclose(with_last(transformer, Scale(3)).encode(TEXTS), bert.encode(TEXTS) * 3, rtol=0, atol=6e-6)


def test_a_module_gets_the_padded_features(transformer: Transformer, bert: SentenceTransformer) -> None:
    scale = Scale()
    with_last(transformer, scale).encode(TEXTS)
    (features,) = scale.seen
    rows = bert.encode(TEXTS, output_value="token_embeddings")
    longest = max(map(len, rows))
    assert tuple(features["token_embeddings"].shape) == (3, longest, WIDTH)
    assert sorted(features["attention_mask"].sum(1).tolist()) == sorted(map(len, rows))
    assert tuple(features["input_ids"].shape) == (3, longest)
    assert features["modality"] == "text"


def test_a_module_may_pool_tokens_itself(transformer: Transformer, bert: SentenceTransformer) -> None:
    model = SentenceTransformer(modules=[transformer, TokenMean()], device="cpu")
    assert_allclose(model.encode(TEXTS), bert.encode(TEXTS), rtol=0, atol=2e-6)


def test_an_argument_that_a_module_declares_reaches_it(transformer: Transformer, bert: SentenceTransformer) -> None:
    model = with_last(transformer, Scale(3))
    assert model.get_model_kwargs() == ["boost"]
    assert_allclose(model.encode(TEXTS, boost=2), bert.encode(TEXTS) * 6, rtol=0, atol=1e-5)


def test_an_argument_that_no_module_declares_is_refused_by_name(transformer: Transformer) -> None:
    with pytest.raises(ValueError, match=r"does not use: \['boot'\].*'boost'"):
        with_last(transformer, Scale()).encode(TEXTS, boot=2)


def test_a_module_is_told_of_the_finished_model_once(transformer: Transformer) -> None:
    scale = Scale()
    model = with_last(transformer, scale)
    assert [ready is model for ready in scale.ready] == [True]


def test_a_module_comes_back(transformer: Transformer, tmp_path: Path) -> None:
    model = with_last(transformer, Scale(3))
    again: Any = reopened(model, tmp_path)
    assert (type(again[2]), again[2].factor) == (Scale, 3)
    assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_a_module_does_not_come_back_without_trust(transformer: Transformer, tmp_path: Path) -> None:
    with_last(transformer, Scale(3)).save(str(tmp_path))
    with pytest.raises(UntrustedCodeError, match=r"Scale.*trust_remote_code=True"):
        SentenceTransformer(str(tmp_path), device="cpu")


def test_a_plain_torch_module_works(transformer: Transformer, bert: SentenceTransformer) -> None:
    plain = Plain()
    model = with_last(transformer, plain)
    weight, bias = (value.detach().double().numpy() for value in plain.linear.parameters())
    assert_allclose(model.encode(TEXTS), bert.encode(TEXTS).astype(np.float64) @ weight.T + bias, rtol=0, atol=1e-5)


def test_the_old_name_of_the_width_of_a_module_is_asked(transformer: Transformer) -> None:
    assert with_last(transformer, Plain()).get_embedding_dimension() == 6


def test_a_plain_torch_module_comes_back(transformer: Transformer, tmp_path: Path) -> None:
    model = with_last(transformer, Plain())
    assert_array_equal(reopened(model, tmp_path).encode(TEXTS), model.encode(TEXTS))


# --- modules that come first


@pytest.mark.parametrize("first", [Letters, NewLetters, Duck])
class TestFirstModule:
    def model(self, first: type[nn.Module]) -> SentenceTransformer:
        return SentenceTransformer(modules=[first()], device="cpu")

    def test_it_reads_the_inputs(self, first: type[nn.Module]) -> None:
        assert_array_equal(self.model(first).encode(["abcd", "ab"]), [[4, 4, 4], [2, 2, 2]])

    def test_it_reads_them_in_every_batch_size(self, first: type[nn.Module]) -> None:
        texts = ["x" * length for length in range(17)]
        for size in (1, 3, 64):
            assert_array_equal(self.model(first).encode(texts, batch_size=size)[:, 0], np.arange(17))

    def test_it_reads_a_single_input(self, first: type[nn.Module]) -> None:
        assert_array_equal(self.model(first).encode("abcd"), [4, 4, 4])

    def test_it_is_not_called_without_inputs(self, first: type[nn.Module]) -> None:
        assert self.model(first).encode([]).shape == (0,)

    def test_the_prompt_stands_before_the_text(self, first: type[nn.Module]) -> None:
        assert_array_equal(self.model(first).encode(["abcd"], prompt="12: "), [[8, 8, 8]])

    def test_roles_reach_it(self, first: type[nn.Module]) -> None:
        assert_array_equal(self.model(first).encode_query(["abcd"]), [[4, 4, 4]])

    def test_preprocess_calls_it(self, first: type[nn.Module]) -> None:
        features = self.model(first).preprocess(["abcd"], prompt="12: ")
        assert {name: value.tolist() for name, value in features.items()} == {"lengths": [8]}

    def test_all_its_features_can_be_had(self, first: type[nn.Module]) -> None:
        (features,) = self.model(first).encode(["abcd"], output_value=None)
        assert {name: value.tolist() for name, value in features.items()} == {
            "lengths": 4,
            "sentence_embedding": [4.0, 4.0, 4.0],
        }

    def test_it_needs_no_weights(self, first: type[nn.Module]) -> None:
        model = self.model(first)
        assert (model.dtype, model.device.type, model.transformers_model) == (None, "cpu", None)

    def test_it_needs_no_limit(self, first: type[nn.Module]) -> None:
        assert self.model(first).max_seq_length is None

    def test_it_comes_back(self, first: type[nn.Module], tmp_path: Path) -> None:
        again = reopened(self.model(first), tmp_path)
        assert read_json(tmp_path / "modules.json")[0]["path"] == f"0_{first.__name__}"
        assert type(again[0]) is first
        assert_array_equal(again.encode(["abcd"]), [[4, 4, 4]])


def test_a_first_module_that_reads_nothing_is_an_error() -> None:
    with pytest.raises(AttributeError, match="tokenize"):
        SentenceTransformer(modules=[nn.Identity()], device="cpu").encode("a")


# --- hooks and subclasses


def test_a_hook_sees_padded_features(changeable: SentenceTransformer) -> None:
    seen: list[Any] = []
    changeable[1].register_forward_pre_hook(lambda module, given: seen.append(given[0]["token_embeddings"]))
    changeable.encode(TEXTS)
    assert [(type(value), value.dim()) for value in seen] == [(torch.Tensor, 3)]


def test_a_hook_may_change_the_vectors(changeable: SentenceTransformer, bert: SentenceTransformer) -> None:
    def double(module: nn.Module, given: Any, features: dict[str, Any]) -> dict[str, Any]:
        return {**features, "sentence_embedding": features["sentence_embedding"] * 2}

    changeable[1].register_forward_hook(double)
    assert_allclose(changeable.encode(TEXTS), bert.encode(TEXTS) * 2, rtol=0, atol=4e-6)


def test_a_hook_inside_the_transformers_model_is_run(
    changeable: SentenceTransformer, bert: SentenceTransformer
) -> None:
    calls: list[int] = []
    changeable[0].auto_model.encoder.layer[0].register_forward_hook(lambda *_: calls.append(1))
    assert_allclose(changeable.encode(TEXTS), bert.encode(TEXTS), rtol=0, atol=5e-6)
    assert calls


def test_forward_of_a_subclass_is_run(bert_folder: Path, bert: SentenceTransformer) -> None:
    class Doubled(SentenceTransformer):
        def forward(self, input: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            features = super().forward(input, **kwargs)
            features["sentence_embedding"] = features["sentence_embedding"] * 2
            return features

    assert_allclose(Doubled(str(bert_folder), device="cpu").encode(TEXTS), bert.encode(TEXTS) * 2, rtol=0, atol=4e-6)
