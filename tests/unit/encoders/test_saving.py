"""What is saved comes back the same, and the files are those that every version of every reader understands.

That the folders load in the reference with the same vectors was checked by hand; the JSON is pinned here for that.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from torch import nn

from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData, __version__
from tests.unit.encoders.folders import TEXTS, WIDTH, WINDOW, model_folder, read_json


def opened(folder: Path, **arguments: Any) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", **arguments)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


FILES = [
    "1_Pooling/config.json",
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="module")
def saved(bert: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as saved, without anything set; don't write."""
    folder = tmp_path_factory.mktemp("saved") / "new" / "model"
    bert.save(str(folder))
    return folder


# --- what comes back


def test_a_saved_model_gives_the_same_vectors(saved: Path, bert: SentenceTransformer) -> None:
    assert_array_equal(opened(saved).encode(TEXTS), bert.encode(TEXTS))


def test_a_model_that_was_saved_twice_gives_the_same_vectors(
    saved: Path, tmp_path: Path, bert: SentenceTransformer
) -> None:
    opened(saved).save(str(tmp_path))
    assert files(tmp_path) == FILES
    assert_array_equal(opened(tmp_path).encode(TEXTS), bert.encode(TEXTS))


def test_all_settings_come_back(bert_folder: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "prompts": {"query": "find this: ", "mine": "the text: "},
        "default_prompt_name": "mine",
        "similarity_fn_name": "euclidean",
        "truncate_dim": 8,
    }
    model = opened(bert_folder, **given)
    model.max_seq_length = 40
    model.set_pooling_include_prompt(False)
    model.save(str(tmp_path))
    again: Any = opened(tmp_path)
    assert again.prompts == {"query": "find this: ", "document": "", "mine": "the text: "}
    assert (again.default_prompt_name, again.similarity_fn_name, again.truncate_dim) == ("mine", "euclidean", 8)
    assert (again.max_seq_length, again.tokenizer.model_max_length, again[1].include_prompt) == (40, 40, False)
    assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_names_of_modules_come_back(parts: list[nn.Module], tmp_path: Path) -> None:
    named: OrderedDict[str, nn.Module] = OrderedDict(zip(["first", "second", "third"], parts, strict=True))
    SentenceTransformer(modules=named, device="cpu").save(str(tmp_path))
    assert [name for name, _ in opened(tmp_path).named_children()] == ["first", "second", "third"]


@pytest.fixture
def parts(bert_folder: Path) -> list[nn.Module]:
    torch.manual_seed(0)
    return [Transformer(str(bert_folder)), Pooling(WIDTH, ["cls", "mean"]), Dense(2 * WIDTH, 5)]


@pytest.mark.parametrize("safe", [True, False])
def test_modules_with_weights_come_back(safe: bool, parts: list[nn.Module], tmp_path: Path) -> None:
    model = SentenceTransformer(modules=[*parts, Normalize()], device="cpu")
    model.save(str(tmp_path), safe_serialization=safe)
    written = {"2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"} & set(files(tmp_path))
    assert written == {"2_Dense/model.safetensors" if safe else "2_Dense/pytorch_model.bin"}
    assert (tmp_path / "model.safetensors").is_file()  # of the transformer, always
    assert_array_equal(opened(tmp_path).encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_model_comes_back_as_one(dtype: torch.dtype, changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.to(dtype).save(str(tmp_path))
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    again = opened(tmp_path)
    assert again.dtype == dtype
    assert_array_equal(again.encode(TEXTS), changeable.encode(TEXTS))


def test_a_half_model_of_built_weights_comes_back_as_one(changeable: SentenceTransformer, tmp_path: Path) -> None:
    _ = changeable[0].auto_model
    changeable.half().save(str(tmp_path))
    assert opened(tmp_path).dtype == torch.float16


def test_a_model_whose_transformer_was_built_comes_back(changeable: SentenceTransformer, tmp_path: Path) -> None:
    before = changeable.encode(TEXTS)
    _ = changeable[0].auto_model
    changeable.save(str(tmp_path))
    assert files(tmp_path) == FILES
    assert_allclose(opened(tmp_path).encode(TEXTS), before, rtol=0, atol=2e-6)


def test_changed_weights_come_back(changeable: SentenceTransformer, bert: SentenceTransformer, tmp_path: Path) -> None:
    with torch.no_grad():
        for weight in changeable.parameters():
            weight.mul_(0.9)
    changeable.save(str(tmp_path))
    assert np.abs(changeable.encode(TEXTS) - bert.encode(TEXTS)).max() > 0.01
    assert_array_equal(opened(tmp_path).encode(TEXTS), changeable.encode(TEXTS))


def test_added_tokens_come_back(changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.tokenizer.add_tokens(["riverrun"])
    changeable[0].auto_model.resize_token_embeddings(len(changeable.tokenizer))
    changeable.save(str(tmp_path))
    again = opened(tmp_path)
    assert len(again.preprocess(["riverrun"])["input_ids"][0]) == 3
    assert_array_equal(again.encode("a riverrun"), changeable.encode("a riverrun"))


@pytest.mark.parametrize("family", ["roberta", "modernbert", "qwen3", "t5"])
def test_other_families_come_back(family: str, tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    model = tiny_model(family)
    model.save(str(tmp_path))
    assert_array_equal(opened(tmp_path).encode(TEXTS), model.encode(TEXTS))


def test_lower_casing_comes_back(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    lower = Transformer(str(tiny_folder("roberta")), do_lower_case=True)
    model = SentenceTransformer(modules=[lower, Pooling(WIDTH)], device="cpu")
    model.save(str(tmp_path))
    assert_array_equal(opened(tmp_path).encode("THE CAT"), model.encode("the cat"))


# --- what the files hold


def test_the_files(saved: Path) -> None:
    assert files(saved) == FILES


def test_modules_json_has_the_classic_names(saved: Path) -> None:
    assert read_json(saved / "modules.json") == [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]


def test_the_config_of_the_model(saved: Path) -> None:
    from importlib.metadata import version

    assert read_json(saved / "config_sentence_transformers.json") == {
        "__version__": {
            "pytorch": version("torch"),
            "sentence_transformers": __version__,
            "transformers": version("transformers"),
        },
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        "prompts": {"document": "", "query": ""},
        "similarity_fn_name": "cosine",
    }


def test_the_config_of_the_model_is_sorted_and_indented(saved: Path) -> None:
    text = (saved / "config_sentence_transformers.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_width_is_saved_only_where_it_is_set(changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.truncate_dim = 8
    changeable.save(str(tmp_path))
    assert read_json(tmp_path / "config_sentence_transformers.json")["truncate_dim"] == 8


def test_the_config_of_the_transformer(saved: Path) -> None:
    assert read_json(saved / "sentence_bert_config.json") == {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "max_seq_length": WINDOW,
        "do_lower_case": False,
    }


def test_the_config_of_pooling(saved: Path) -> None:
    assert read_json(saved / "1_Pooling" / "config.json") == {
        "embedding_dimension": WIDTH,
        "pooling_mode": "mean",
        "include_prompt": True,
    }


def test_the_limit_is_in_the_tokenizer_config_too(saved: Path) -> None:
    assert read_json(saved / "tokenizer_config.json")["model_max_length"] == WINDOW


def test_the_weights_are_those_of_the_source(saved: Path, bert_folder: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (bert_folder, saved))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_transformers_opens_the_folder(saved: Path, bert: SentenceTransformer) -> None:
    from transformers import AutoModel, AutoTokenizer

    network, tokenizer = AutoModel.from_pretrained(saved).eval(), AutoTokenizer.from_pretrained(saved)
    with torch.no_grad():
        states = network(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0]
    assert_allclose(states.mean(0).numpy(), bert.encode(TEXTS[0]), rtol=0, atol=5e-6)


def test_names_of_arguments_of_modules_are_saved(changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.module_kwargs = {"1": ["foo"]}
    changeable.save(str(tmp_path))
    assert [entry.get("kwargs") for entry in read_json(tmp_path / "modules.json")] == [None, ["foo"]]
    assert opened(tmp_path).get_model_kwargs() == ["foo"]


def test_prompts_of_every_script_are_saved(changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.prompts["query"] = "Rechèrche 検索: "
    changeable.save(str(tmp_path))
    assert opened(tmp_path).prompts["query"] == "Rechèrche 検索: "


# --- where it is saved


def test_no_path_saves_nothing(bert: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bert.save(None)
    assert files(tmp_path) == []


def test_save_pretrained_is_save(bert: SentenceTransformer, saved: Path, tmp_path: Path) -> None:
    bert.save_pretrained(tmp_path, None, True, None, True)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes(), name


def test_a_model_replaces_the_one_in_its_folder(
    parts: list[nn.Module], bert: SentenceTransformer, tmp_path: Path
) -> None:
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path))
    assert "2_Dense/model.safetensors" in files(tmp_path)
    bert.save(str(tmp_path))
    assert files(tmp_path) == FILES
    assert_array_equal(opened(tmp_path).encode(TEXTS), bert.encode(TEXTS))


def test_files_of_others_in_the_folder_stay(bert: SentenceTransformer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    bert.save(str(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("built", [False, True])
def test_a_model_may_be_saved_into_the_folder_it_came_from(built: bool, saved: Path, tmp_path: Path) -> None:
    opened(saved).save(str(tmp_path))
    model = opened(tmp_path)
    before = model.encode(TEXTS)
    if built:
        _ = model[0].auto_model
    model.prompts["query"] = "find this: "
    model.save(str(tmp_path))
    assert_allclose(model.encode(TEXTS), before, rtol=0, atol=2e-6)  # the weights in use were not overwritten
    again = opened(tmp_path)
    assert again.prompts["query"] == "find this: "
    assert_allclose(again.encode(TEXTS), before, rtol=0, atol=2e-6)


def test_a_half_model_may_be_saved_into_the_folder_it_came_from(saved: Path, tmp_path: Path) -> None:
    opened(saved).save(str(tmp_path))
    model = opened(tmp_path).half()
    model.save(str(tmp_path))
    assert_array_equal(opened(tmp_path).encode(TEXTS), model.encode(TEXTS))


def test_a_save_that_fails_leaves_the_old_model(
    parts: list[nn.Module], bert: SentenceTransformer, tmp_path: Path
) -> None:
    class Unsaveable(Normalize):
        def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
            raise OSError("no room")

    bert.save(str(tmp_path))
    with pytest.raises(OSError, match="no room"):
        SentenceTransformer(modules=[*parts, Unsaveable()], device="cpu").save(str(tmp_path))
    assert files(tmp_path) == FILES
    assert_array_equal(opened(tmp_path).encode(TEXTS), bert.encode(TEXTS))


def test_a_failed_first_save_leaves_no_folder(bert_folder: Path, tmp_path: Path) -> None:
    class WithoutSave(nn.Module):
        def forward(self, features: Any) -> Any:
            return features

    model = SentenceTransformer(modules=[Transformer(str(bert_folder)), WithoutSave()], device="cpu")
    with pytest.raises(AttributeError, match="save"):
        model.save(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


# --- the model card


def test_the_card_has_metadata_and_an_example(saved: Path) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "\npipeline_tag: sentence-similarity\n" in card
    assert 'SentenceTransformer("sentence_transformers_model_id")' in card


def test_the_name_of_the_model_is_in_the_card(changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.save(str(tmp_path), model_name="acme/tiny")
    assert 'SentenceTransformer("acme/tiny")' in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_no_card_is_written_unasked(bert: SentenceTransformer, tmp_path: Path) -> None:
    bert.save(str(tmp_path), create_model_card=False)
    assert files(tmp_path) == [name for name in FILES if name != "README.md"]


def test_the_facts_of_the_caller_are_in_the_card(bert_folder: Path, tmp_path: Path) -> None:
    card = SentenceTransformerModelCardData(language="nl", license="mit", model_name="Mijn model", tags=["mine"])
    opened(bert_folder, model_card_data=card).save(str(tmp_path))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert all(part in text for part in ("\n- nl\n", "\nlicense: mit\n", "# Mijn model", "\n- mine\n"))


def test_the_card_that_came_with_a_model_is_kept(bert_folder: Path, tmp_path: Path) -> None:
    folder = model_folder(bert_folder, tmp_path / "source")
    (folder / "README.md").write_text("# Somebody's words\n", encoding="utf-8")
    opened(folder).save(str(tmp_path / "target"))
    assert (tmp_path / "target" / "README.md").read_text(encoding="utf-8") == "# Somebody's words\n"


# --- a module of a third party


class Scaled(Normalize):
    """Stands for a class of another package: it is importable, and not ours."""


def test_a_module_of_a_third_party_is_saved_by_its_path(bert_folder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(modules=[Transformer(str(bert_folder)), Pooling(WIDTH), Scaled()], device="cpu")
    model.save(str(tmp_path))
    kind = read_json(tmp_path / "modules.json")[2]["type"]
    assert kind == f"{Scaled.__module__}.Scaled"
    assert (tmp_path / "2_Scaled" / "config.json").is_file()
    assert_array_equal(opened(tmp_path, trust_remote_code=True).encode(TEXTS), model.encode(TEXTS))
