"""The part with several routes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.testing import assert_close

from sentence_transformers.errors import ModelFileError, UntrustedCodeError
from sentence_transformers.modules.linear import Dense, Normalize
from sentence_transformers.modules.module import EachBatch, Module
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Asym, Router
from sentence_transformers.modules.static import StaticEmbedding
from sentence_transformers.modules.tokenizers import WhitespaceTokenizer
from sentence_transformers.modules.words import WordEmbeddings

WORDS = ["[UNK]", "a", "b", "c"]


def static(scale: float = 1.0, width: int = 2) -> StaticEmbedding:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return StaticEmbedding(tokenizer, scale * torch.arange(1.0, 4 * width + 1).view(4, width))


def words() -> WordEmbeddings:
    vectors = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    return WordEmbeddings(WhitespaceTokenizer(["PADDING_TOKEN", "a", "b"], stop_words=()), vectors, max_seq_length=3)


def pair() -> Router:
    return Router.for_query_document([static()], [static(-1.0), Normalize()])


def encode(router: Router, inputs: list[Any], **where: Any) -> Tensor:
    vectors: Tensor = router(router.preprocess(inputs, **where))["sentence_embedding"]
    return vectors.detach()


class Echo(Module):
    """Writes the keyword arguments it was given."""

    forward_kwargs: ClassVar[set[str]] = {"task", "depth"}

    def forward(self, features: Any, **kwargs: Any) -> Any:
        return {**features, "given": kwargs}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)

    def on_model_ready(self, model: Any) -> None:
        self.model = [model]


# --- choosing


def test_each_task_takes_its_route() -> None:
    assert encode(pair(), ["a"], task="query").tolist() == [[3.0, 4.0]]
    assert_close(encode(pair(), ["a"], task="document"), torch.tensor([[-0.6, -0.8]]))


def test_without_a_task_documents_are_the_default() -> None:
    router = pair()
    assert torch.equal(encode(router, ["a"]), encode(router, ["a"], task="document"))


def test_old_inputs_name_their_task() -> None:
    assert encode(pair(), [{"query": "a"}]).tolist() == [[3.0, 4.0]]


def test_features_tell_task_and_modality() -> None:
    features = pair().preprocess(["a b"], task="query", prompt="c ")
    assert (features["task"], features["modality"]) == ("query", "text")
    assert features["input_ids"].tolist() == [3, 1, 2]


def test_an_argument_of_forward_wins_over_the_features() -> None:
    router = pair()
    features = router.preprocess(["a"], task="query")
    assert_close(router(dict(features), task="document")["sentence_embedding"], torch.tensor([[-0.6, -0.8]]))


def test_without_empty_keys_a_task_is_needed() -> None:
    router = Router({"query": [static()]}, allow_empty_key=False)
    assert router.default_route is None
    with pytest.raises(ValueError, match="router_mapping"):
        router.preprocess(["a"])


def test_the_first_route_is_the_default_where_none_is_named() -> None:
    assert Router({"x": [static()], "y": [static()]}).default_route == "x"


@pytest.mark.parametrize(
    "arguments, problem",
    [
        ({"sub_modules": {}}, "cannot be empty"),
        ({"sub_modules": {"x": []}, "default_route": "y"}, "'y' not found"),
        ({"sub_modules": {"x": []}, "route_mappings": {("q", None): "y"}}, "'y', which is not one of"),
    ],
)
def test_routes_that_lead_nowhere_are_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Router(**arguments)


def test_a_route_for_inputs_must_begin_with_a_reader() -> None:
    router = Router({"x": [Normalize()], "y": []})
    for task in ("x", "y"):
        with pytest.raises(ValueError, match="must begin with an input module"):
            router.preprocess(["a"], task=task)


def test_a_router_may_stand_behind_other_parts() -> None:
    router = Router({"x": [Normalize()], "y": [Dense(2, 3)]})
    assert_close(
        router({"sentence_embedding": torch.tensor([[3.0, 4.0]])})["sentence_embedding"], torch.tensor([[0.6, 0.8]])
    )
    assert router({"sentence_embedding": torch.ones(1, 2)}, task="y")["sentence_embedding"].shape == (1, 3)


# --- running


def test_each_part_gets_only_the_arguments_it_declares() -> None:
    router = Router({"x": [Normalize(), Echo()]})
    assert router({}, task="x", depth=2, other=3)["given"] == {"task": "x", "depth": 2}


def test_prepared_batches_take_the_same_route() -> None:
    router = pair()
    prepared = router.prepare(["a b", "", "c"], prompt="c ", task="query")
    assert prepared.sizes.tolist() == [3, 1, 2]
    out = router(prepared.batch(np.array([2, 0])))["sentence_embedding"]
    assert_close(out.detach(), encode(router, ["c", "a b"], prompt="c ", task="query"))


def test_packed_tokens_pass_through_where_all_parts_read_them() -> None:
    router = Router({"x": [words(), Pooling(2)]})
    assert router.accepts_packed and router.threads_safe
    prepared = router.prepare(["a b", "b", "a a a a"])
    assert (len(prepared.cut), prepared.limit) == (1, 3)
    out = router(prepared.batch(np.arange(3)))["sentence_embedding"]
    assert_close(out, encode(router, ["a b", "b", "a a a a"]))


def test_a_part_that_reads_no_packed_tokens_gets_padded_ones() -> None:
    router = Router({"x": [words(), Echo(), Pooling(2)]})
    assert not router.accepts_packed and not router.threads_safe
    prepared = router.prepare([{"x": "a b"}, {"x": "b"}])
    assert isinstance(prepared, EachBatch)
    features = router(prepared.batch(np.arange(2)))
    assert features["given"] == {"task": "x"}
    assert features["sentence_embedding"].tolist() == [[2.0, 3.0], [3.0, 4.0]]


def test_every_part_is_told_once_that_the_model_is_ready() -> None:
    part = Echo()
    Router({"x": [part], "y": [part, nn.Identity()]}).on_model_ready("model")
    assert part.model == ["model"]


# --- what users reach for


def test_tokenizer_and_width_are_those_of_the_first_route() -> None:
    query = static()
    router = Router({"query": [query], "document": [static(), Dense(2, 2)]})
    assert router.tokenizer is query.tokenizer
    assert router.get_embedding_dimension() == 2
    assert router.modalities == ["text"]
    assert Router({"x": [Normalize()]}).tokenizer is None
    assert Router({"x": [Normalize()]}).get_embedding_dimension() is None


def test_different_widths_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    assert Router({"x": [static()], "y": [static(width=3)]}).get_embedding_dimension() == 2
    assert "different widths [2, 3]" in caplog.text


def test_the_largest_limit_is_that_of_the_router(caplog: pytest.LogCaptureFixture) -> None:
    first, second = words(), words()
    router = Router({"x": [first], "y": [second], "z": [Normalize()]})
    assert router.max_seq_length == 3
    second.max_seq_length = 5
    with caplog.at_level(logging.WARNING):
        assert (router.max_seq_length, router.max_seq_length) == (5, 5)
    assert caplog.text.count("[3, 5]") == 1


def test_setting_the_limit_reaches_every_route_that_has_one() -> None:
    first, endless = words(), static()
    router = Router({"x": [first], "y": [endless], "z": [Normalize()]})
    router.max_seq_length = 9
    assert first.max_seq_length == 9
    assert endless.max_seq_length == float("inf")


def test_weights_have_the_names_of_the_reference() -> None:
    names = ["sub_modules.query.0.embedding.weight", "sub_modules.document.0.embedding.weight"]
    assert list(pair().state_dict()) == names


def test_the_old_name_is_the_same_class() -> None:
    assert Asym is Router


def test_repr_shows_routes_and_default() -> None:
    assert "default_route='document'" in repr(pair())
    assert "(query): Sequential" in repr(pair())


# --- saving and loading


def shared() -> Router:
    reader = static()
    mappings: dict[Any, str] = {("q", None): "query", (None, ("image", "text")): "document"}
    return Router({"query": [reader], "document": [reader, Normalize()]}, "query", False, mappings)


def test_the_config_has_the_layout_of_the_reference(tmp_path: Path) -> None:
    shared().save(str(tmp_path))
    assert json.loads((tmp_path / "router_config.json").read_text()) == {
        "types": {
            "query_0_StaticEmbedding": "sentence_transformers.models.StaticEmbedding",
            "document_1_Normalize": "sentence_transformers.models.Normalize",
        },
        "structure": {
            "query": ["query_0_StaticEmbedding"],
            "document": ["query_0_StaticEmbedding", "document_1_Normalize"],
        },
        "parameters": {
            "default_route": "query",
            "allow_empty_key": False,
            "route_mappings": {"('q', None)": "query", "(None, ('image', 'text'))": "document"},
        },
    }
    assert (tmp_path / "query_0_StaticEmbedding" / "model.safetensors").is_file()


@pytest.mark.parametrize("subfolder", ["", "0_Router"])
def test_a_router_is_the_same_after_loading(tmp_path: Path, subfolder: str) -> None:
    (tmp_path / subfolder).mkdir(exist_ok=True)
    router = shared()
    router.save(str(tmp_path / subfolder), safe_serialization=False)
    loaded = Router.load(str(tmp_path), subfolder=subfolder)
    assert loaded.get_config_dict() == router.get_config_dict()
    assert loaded.route_mappings == router.route_mappings
    assert loaded.sub_modules["query"][0] is loaded.sub_modules["document"][0]
    for task in ("query", "document"):
        assert torch.equal(encode(loaded, ["a b"], task=task), encode(router, ["a b"], task=task))


def rewritten(folder: Path, name: str = "router_config.json", **changes: Any) -> str:
    pair().save(str(folder))
    path = folder / "router_config.json"
    config = json.loads(path.read_text()) | changes
    path.unlink()
    (folder / name).write_text(json.dumps(config))
    return str(folder)


def test_the_config_of_asym_loads(tmp_path: Path) -> None:
    types = {
        "query_0_StaticEmbedding": "sentence_transformers.models.StaticEmbedding.StaticEmbedding",
        "document_0_StaticEmbedding": "sentence_transformers.models.StaticEmbedding",
        "document_1_Normalize": "sentence_transformers.models.Normalize",
    }
    router = Asym.load(rewritten(tmp_path, "config.json", types=types, parameters={"allow_empty_key": True}))
    assert router.default_route == "query"
    assert encode(router, [{"query": "a"}]).tolist() == [[3.0, 4.0]]


def test_a_class_can_be_replaced_on_loading(tmp_path: Path) -> None:
    class Other(Normalize):
        pass

    loaded = Router.load(rewritten(tmp_path), module_classes={"sentence_transformers.models.Normalize": Other})
    assert type(loaded.sub_modules["document"][1]) is Other


def test_foreign_code_needs_trust(tmp_path: Path) -> None:
    folder = rewritten(tmp_path, types={"query_0_StaticEmbedding": "os.path"})
    with pytest.raises(UntrustedCodeError, match="trust_remote_code=True"):
        Router.load(folder)


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"types": None}, "'types' and 'structure'"),
        ({"types": {"x": "sentence_transformers.models.Normalize"}}, "document_0_StaticEmbedding"),
        ({"parameters": {"route_mappings": {"query": "document"}}}, "route_mappings"),
        ({"parameters": {"route_mappings": {"(": "document"}}}, "route_mappings"),
    ],
)
def test_a_damaged_config_is_named(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFileError, match=problem):
        Router.load(rewritten(tmp_path, **changes))


def test_unknown_parameters_are_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Router.load(rewritten(tmp_path, parameters={"default_route": "query", "foo": 1}))
    assert "foo" in caplog.text
