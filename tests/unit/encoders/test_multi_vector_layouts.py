"""Late-interaction models as others saved them: PyLate, Stanford ColBERT, dense models, bare transformers."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_heads as heads
import torch
from safetensors.torch import load_file, save_file

from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.encoders import colbert
from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.linear import Dense, Normalize
from tests.unit.encoders.folders import read_json, write_json

PARTS = ["Transformer", "Dense", "MultiVectorMask", "Normalize"]


@pytest.fixture(scope="module")
def stanford_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Don't write."""
    return heads.build_stanford(tmp_path_factory.mktemp("stanford"))


@pytest.fixture(scope="module")
def pylate_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Don't write."""
    return heads.build_pylate(tmp_path_factory.mktemp("pylate"))


@pytest.fixture(scope="module")
def bare_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose vocabulary has [unused0] and [unused1], which its splitting never yields; don't write."""
    return tiny.build("bert", tmp_path_factory.mktemp("bare"), tokenizer=heads.unused_tokenizer())


@pytest.fixture
def stanford_copy(stanford_folder: Path, tmp_path: Path) -> Path:
    """A folder of the test's own."""
    return Path(shutil.copytree(stanford_folder, tmp_path / "stanford"))


def opened(folder: Path, **settings: Any) -> MultiVectorEncoder:
    return MultiVectorEncoder(str(folder), device="cpu", **settings)


def names(model: Any) -> list[str]:
    return [type(part).__name__ for part in model]


def marks(model: MultiVectorEncoder, role: str, text: str = "the cat") -> list[str]:
    """The first tokens of an input with the prompt of a role, as the model reads it: up to the text."""
    ids = model.preprocess([text], prompt=model.prompts[role], task=role)["input_ids"][0]
    tokens: list[str] = model.tokenizer.convert_ids_to_tokens(ids.tolist())
    return tokens[: tokens.index("the")]


def test_every_layout_has_the_same_parts(pylate_folder: Path, stanford_folder: Path, bare_folder: Path) -> None:
    for folder in (pylate_folder, stanford_folder, bare_folder):
        assert names(opened(folder)) == PARTS


# --- marks before queries and documents


def test_marks_are_one_token_each(pylate_folder: Path, stanford_folder: Path) -> None:
    for folder in (pylate_folder, stanford_folder):
        model = opened(folder)
        assert marks(model, "query") == ["[CLS]", "[unused0]"]
        assert marks(model, "document") == ["[CLS]", "[unused1]"]


def test_marks_stay_one_token_each_once_the_model_is_saved(
    pylate_folder: Path, stanford_folder: Path, tmp_path: Path
) -> None:
    for folder in (pylate_folder, stanford_folder):
        target = tmp_path / folder.name
        model = opened(folder)
        model.save(str(target))
        again = opened(target)
        assert again.prompts == model.prompts == {"query": "[unused0] ", "document": "[unused1] "}
        assert marks(again, "query") == ["[CLS]", "[unused0]"]
        assert marks(again, "document") == ["[CLS]", "[unused1]"]


def test_prompts_of_a_bare_model_make_no_marks_unasked(bare_folder: Path) -> None:
    model = opened(bare_folder)
    assert model.prompts == {"query": "", "document": ""}
    assert model.tokenizer.tokenize("[unused0]")[0] == "["


def test_prompts_of_the_caller_make_no_marks(bare_folder: Path) -> None:
    """As in the reference: whoever trained a model with such a prompt trained it on the pieces."""
    model = opened(bare_folder, prompts={"query": "[unused0] "})
    assert model.tokenizer.tokenize("[unused0]")[0] == "["


@pytest.mark.parametrize("saved_type", ["MultiVectorEncoder", "SentenceTransformer", "ColBERT"])
def test_saved_prompts_make_no_marks(saved_type: str, bare_folder: Path, tmp_path: Path) -> None:
    """As in the reference: only the prefixes of PyLate and Stanford do."""
    folder = heads.write_model(
        Path(shutil.copytree(bare_folder, tmp_path / "model")), saved_type, heads.FEATURES,
        [heads.dense("late", 16, "token_embeddings", "token_embeddings")], {"prompts": {"query": "[unused0] "}},
    )  # fmt: skip
    model = opened(folder)
    assert model.prompts["query"] == "[unused0] "
    assert model.tokenizer.tokenize("[unused0]")[0] == "["


def test_a_mark_may_have_words_behind_it(tmp_path: Path) -> None:
    model = opened(heads.build_pylate(tmp_path, query_prefix="[unused0] for "))
    assert marks(model, "query") == ["[CLS]", "[unused0]", "for"]


def test_marks_are_made_whatever_prompts_the_caller_has(pylate_folder: Path) -> None:
    model = opened(pylate_folder, prompts={"query": "and "})
    assert model.tokenizer.tokenize("[unused0]") == ["[unused0]"]


@pytest.mark.parametrize("prompt", ["[unused7] ", "", None, "the "])
def test_other_prompts_are_left_to_the_tokenizer(prompt: str | None, bare_folder: Path) -> None:
    """A mark that is not in the vocabulary, none, and a word that is one token anyhow."""
    model = opened(bare_folder)
    count = len(model.tokenizer.all_special_tokens), len(model[0].text.processor.tokenizer.get_added_tokens_decoder())
    colbert.register_marks(model[0], [prompt])
    text = model[0].text
    assert count == (len(model.tokenizer.all_special_tokens), len(text.processor.tokenizer.get_added_tokens_decoder()))


def test_a_mark_keeps_its_number(bare_folder: Path) -> None:
    model = opened(bare_folder)
    before = model.tokenizer.get_vocab()
    colbert.register_marks(model[0], ["[unused0] "])
    assert model.tokenizer.get_vocab() == before
    assert model.tokenizer.tokenize("[unused0] a") == ["[unused0]", "a"]


# --- PyLate


def test_pylate_warns_of_the_conversion(pylate_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(pylate_folder)
    assert "Converting a ColBERT model to MultiVectorEncoder." in caplog.text


def test_queries_of_pylate_have_one_length(pylate_folder: Path) -> None:
    model = opened(pylate_folder)
    found = model.encode_query(["x", "a b c d e f g h i j k l m"], on_truncate="ignore")
    assert [row.shape for row in found] == [(12, 16), (12, 16)]
    assert (model[0].query_length, model[0].document_length) == (12, 20)


def test_the_weights_of_pylate_are_those_of_the_folder(pylate_folder: Path) -> None:
    saved = load_file(pylate_folder / "1_Dense" / "model.safetensors")["linear.weight"]
    assert torch.equal(opened(pylate_folder)[1].linear.weight, saved)


@pytest.mark.parametrize(("given", "words"), [(None, list(string.punctuation)), ([], []), ([".", "the"], [".", "the"])])
def test_skipped_words_of_pylate(given: list[str] | None, words: list[str], tmp_path: Path) -> None:
    assert opened(heads.build_pylate(tmp_path, skiplist_words=given))[2].skiplist_words == words


def test_the_similarity_that_pylate_saved_is_ours_by_another_name(pylate_folder: Path) -> None:
    assert read_json(pylate_folder / "config_sentence_transformers.json")["similarity_fn_name"] == "MaxSim"
    assert opened(pylate_folder).similarity_fn_name == "maxsim"


def test_prompts_of_the_caller_win_over_prefixes(pylate_folder: Path) -> None:
    assert opened(pylate_folder, prompts={"query": "ask: "}).prompts == {"query": "ask: ", "document": "[unused1] "}


FILLED = {"strategy": "fixed", "attend": False, "length": 32}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"model_type": "ColBERT", "prompts": {}}, {}),
        ({"query_prefix": "[Q] "}, {"query_expansion": FILLED}),
        ({"skiplist_words": []}, {"query_expansion": FILLED}),
        ({"query_length": None}, {"query_expansion": FILLED}),
        ({"query_length": 24}, {"query_length": 24, "query_expansion": FILLED | {"length": 24}}),
        ({"document_length": 99}, {"document_length": 99, "query_expansion": FILLED}),
        ({"attend_to_expansion_tokens": True}, {"query_expansion": FILLED | {"attend": True}}),
        ({"attend_to_mask_tokens": True}, {"query_expansion": FILLED | {"attend": True}}),
        (
            {"attend_to_expansion_tokens": False, "attend_to_mask_tokens": True},
            {"query_expansion": FILLED},
        ),
        ({"query_length": 24, "do_query_expansion": False}, {"query_length": 24}),
        ({"query_length": 24, "query_expansion": False}, {"query_length": 24}),
        ({"do_query_expansion": True}, {"query_expansion": FILLED}),
        ({"do_query_expansion": None}, {"query_expansion": FILLED}),
        (
            {"query_expansion": {"strategy": "min", "length": 9}, "do_query_expansion": False},
            {"query_expansion": {"strategy": "min", "length": 9}},
        ),
    ],
)
def test_settings_in_the_words_of_pylate(config: dict[str, Any], settings: dict[str, Any]) -> None:
    assert colbert.transformer_settings(config) == settings


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (None, {"query": "[Q] ", "document": "[D] "}),
        ({"query": "", "other": "o"}, {"query": "[Q] ", "document": "[D] ", "other": "o"}),
        ({"query": "ask: ", "document": None}, {"query": "[Q] ask: ", "document": "[D] "}),
        ({"query": "[Q] ask: ", "document": "[D] "}, {"query": "[Q] ask: ", "document": "[D] "}),
    ],
)
def test_prefixes_stand_before_prompts_once(prompts: Any, expected: dict[str, str]) -> None:
    config = {"prompts": prompts, "query_prefix": "[Q] ", "document_prefix": "[D] ", "more": 1}
    before = json.dumps(config)
    assert colbert.with_prefixes(config)["prompts"] == expected
    assert json.dumps(config) == before


def test_a_config_without_prefixes_stays_as_it_is() -> None:
    assert colbert.with_prefixes({"model_type": "MultiVectorEncoder"}) == {"model_type": "MultiVectorEncoder"}
    assert colbert.with_prefixes({"prompts": {"a": "b"}})["prompts"] == {"a": "b"}


# --- Stanford ColBERT


def test_stanford_has_its_own_projection(stanford_folder: Path) -> None:
    dense = opened(stanford_folder)[1]
    assert torch.equal(dense.linear.weight, load_file(stanford_folder / "model.safetensors")["linear.weight"])
    assert dense.linear.bias is None
    assert isinstance(dense.activation_function, torch.nn.Identity)


def test_settings_of_stanford(stanford_folder: Path) -> None:
    model = opened(stanford_folder)
    assert model[0].query_expansion == {"strategy": "fixed", "attend": False, "length": 14}
    assert model[0].document_length == 24
    assert model[2].skiplist_words == list(string.punctuation)
    assert model.encode_query("x").shape == (14, 16)


@pytest.mark.parametrize("written", [None, {}])
def test_settings_that_stanford_leaves_out(written: dict[str, Any] | None, stanford_copy: Path) -> None:
    (stanford_copy / "artifact.metadata").unlink()
    if written is not None:
        write_json(stanford_copy / "artifact.metadata", written)
    model = opened(stanford_copy)
    assert model.prompts == {"query": "[unused0] ", "document": "[unused1] "}
    assert model[0].query_expansion == {"strategy": "fixed", "attend": False, "length": 32}
    assert model[0].document_length is None
    assert model[2].skiplist_words == list(string.punctuation)


def test_settings_that_stanford_leaves_open(stanford_copy: Path) -> None:
    """null is what is not there, as in the reference."""
    keys = ("query_token_id", "doc_token_id", "query_maxlen", "doc_maxlen", "attend_to_mask_tokens")
    write_json(stanford_copy / "artifact.metadata", dict.fromkeys(keys))
    model = opened(stanford_copy)
    assert model.prompts == {"query": "[unused0] ", "document": "[unused1] "}
    assert model[0].query_expansion == {"strategy": "fixed", "attend": False, "length": 32}


def test_prompts_of_the_caller_win_over_those_of_stanford(stanford_folder: Path) -> None:
    model = opened(stanford_folder, prompts={"query": "ask: ", "other": "o"})
    assert model.prompts == {"query": "ask: ", "document": "[unused1] ", "other": "o"}


def test_stanford_without_a_projection_is_one_clear_error(stanford_copy: Path) -> None:
    weights = load_file(stanford_copy / "model.safetensors")
    del weights["linear.weight"]
    save_file(weights, stanford_copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"model\.safetensors: expected a tensor 'linear\.weight' of shape"):
        opened(stanford_copy)


def test_stanford_with_a_projection_of_another_shape_is_one_clear_error(stanford_copy: Path) -> None:
    weights = load_file(stanford_copy / "model.safetensors") | {"linear.weight": torch.zeros(16)}
    save_file(weights, stanford_copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"expected 'linear\.weight' of shape \(any, any\), found \(16\)"):
        opened(stanford_copy)


def test_stanford_without_weights_is_one_clear_error(stanford_copy: Path) -> None:
    (stanford_copy / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match="No weights in"):
        opened(stanford_copy)


def test_stanford_with_damaged_metadata_is_one_clear_error(stanford_copy: Path) -> None:
    (stanford_copy / "artifact.metadata").write_text("{", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"artifact\.metadata"):
        opened(stanford_copy)


def test_a_folder_of_something_else_is_not_stanford(bare_folder: Path) -> None:
    assert colbert.read_stanford(bare_folder) is None


# --- dense models


def test_a_dense_model_works_on_tokens(tmp_path: Path) -> None:
    folder = heads.build_sentence_dense(tmp_path)
    dense, late = SentenceTransformer(str(folder), device="cpu"), opened(folder)
    assert names(late) == PARTS
    assert (late[1].module_input_name, late[1].module_output_name) == ("token_embeddings", "token_embeddings")
    tokens = torch.tanh(dense.encode("the cat", output_value="token_embeddings") @ dense[2].linear.weight.T
                        + dense[2].linear.bias)  # fmt: skip
    expected = torch.nn.functional.normalize(tokens, dim=-1)
    torch.testing.assert_close(late.encode("the cat", task="query"), expected, rtol=0, atol=3e-6)


def test_a_dense_model_without_projection_gets_an_untrained_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = opened(tiny.build_with_pooling("bert", tmp_path, "mean"))
    assert names(model) == PARTS
    assert (model[1].in_features, model[1].out_features, model[1].linear.bias) == (32, 128, None)
    assert "gets an untrained one to 128 dimensions" in caplog.text
    assert model.prompts["find"]


def test_a_dense_model_with_a_projection_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(heads.build_sentence_dense(tmp_path))
    assert "untrained" not in caplog.text


def test_scaling_of_tokens_stays(tmp_path: Path, bare_folder: Path) -> None:
    dense = SentenceTransformer(str(bare_folder), device="cpu")
    scaled = SentenceTransformer(modules=[dense[0], Normalize(module_input_name="token_embeddings"), dense[1]])
    scaled.save(str(tmp_path))
    assert names(opened(tmp_path)) == ["Transformer", "Normalize", *PARTS[1:]]


def test_a_dense_model_without_a_transformer_cannot_be_converted(tmp_path: Path, bare_folder: Path) -> None:
    from sentence_transformers.modules.static import StaticEmbedding

    tokenizer = SentenceTransformer(str(bare_folder), device="cpu").tokenizer
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(tmp_path))
    with pytest.raises(ValueError, match="Transformer"):
        opened(tmp_path)


# --- bare transformers


def test_a_bare_transformer_gets_an_untrained_projection(bare_folder: Path) -> None:
    model = opened(bare_folder)
    assert isinstance(model[1], Dense)
    assert (model[1].out_features, model[1].linear.bias, model.get_embedding_dimension()) == (128, None, 128)
    assert (model[0].query_expansion, model[2].skiplist_words) == (None, [])
    found = model.encode_query("the cat, the cat.")
    assert found.shape == (len(model.tokenizer("the cat, the cat.")["input_ids"]), 128)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(len(found)))
    same = model.encode_document("the cat, the cat.")
    assert torch.equal(found, same)


def test_what_was_made_of_a_bare_transformer_is_saved_as_it_is(bare_folder: Path, tmp_path: Path) -> None:
    model = opened(bare_folder)
    model.save(str(tmp_path))
    assert read_json(tmp_path / "config_sentence_transformers.json")["model_type"] == "MultiVectorEncoder"
    assert torch.equal(opened(tmp_path).encode("the cat"), model.encode("the cat"))
