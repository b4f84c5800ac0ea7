"""The model card of each encoder: metadata, facts, and example code that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_heads as heads

import sentence_transformers
from sentence_transformers.cards import data

BUILT: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "dense": ("SentenceTransformer", heads.build_sentence_dense),
    "splade": ("SparseEncoder", lambda folder: heads.build_splade(folder, "max", "relu")),
    "csr": ("SparseEncoder", heads.build_csr),
    "routed": ("SparseEncoder", heads.build_inference_free),
    "late": ("MultiVectorEncoder", lambda folder: heads.build_late("bert", folder)),
    "stanford": ("MultiVectorEncoder", heads.build_stanford),
    "cross": ("CrossEncoder", lambda folder: heads.build_classifier("bert", folder)),
    "labels": ("CrossEncoder", lambda folder: heads.build_classifier("bert", folder, 3)),
    "generative": ("CrossEncoder", heads.build_answering),
}
"""Name -> class, what writes a folder."""


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """``model_of(name)``; shared by all tests: don't change it."""
    root = tmp_path_factory.mktemp("cards")

    @cache
    def open_(name: str) -> Any:
        kind, build = BUILT[name]
        return getattr(sentence_transformers, kind)(str(build(root / name)), device="cpu")

    return open_


@pytest.fixture(params=BUILT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def card_of(model: Any, **facts: Any) -> str:
    """The card of a model with these facts."""
    return str(model.model_card_data_class(**facts).render(model))


def metadata(card: str) -> dict[str, Any]:
    """The block at its head, every line of which is ``key: <JSON>``, and so YAML."""
    head = card.split("---\n")[1]
    return {key: json.loads(value) for key, value in (line.split(": ", 1) for line in head.splitlines())}


def table(card: str) -> dict[str, str]:
    """What the table says; every row has two cells."""
    rows = [line for line in card.splitlines() if re.match(r"\| \w", line)]
    cells = [re.split(r"(?<!\\)\|", row) for row in rows]
    assert {len(parts) for parts in cells} == {4}
    return {parts[1].strip(): parts[2].strip() for parts in cells}


def code(card: str) -> str:
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found[1]


# --- all of it


def test_nothing_is_left_to_fill_in(name: str, model_of: Callable[[str], Any]) -> None:
    card = card_of(model_of(name))
    assert not re.search(r"\$\w|\$\{|<bound|object at", card)
    assert "None" not in card.partition("## Modules")[0]
    assert card.count("```") == 6  # three blocks, all closed


def test_the_example_runs(
    name: str, model_of: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(name)
    model.save(str(tmp_path))
    card = card_of(model, model_id="me/mine")
    assert card.count('"me/mine"') == 1
    script = code(card).replace('"me/mine"', repr(str(tmp_path)))
    exec(compile(script, "card", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_example_is_of_the_right_class(name: str, model_of: Callable[[str], Any]) -> None:
    kind, placeholder = BUILT[name][0], model_of(name)._model_card_model_id_placeholder
    script = code(card_of(model_of(name)))
    assert f"from sentence_transformers import {kind}\n" in script
    assert f'model = {kind}("{placeholder}")\n' in script


def test_the_saved_card_is_this_card(name: str, model_of: Callable[[str], Any], tmp_path: Path) -> None:
    model = model_of(name)
    model.save(str(tmp_path), model_name="me/saved")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card_of(model, model_id="me/saved")
    model.model_card_data.model_id = None


# --- metadata

HUB = {
    "dense": ("sentence-similarity", ["sentence-similarity", "feature-extraction", "dense"]),
    "splade": ("feature-extraction", ["sparse-encoder", "sparse", "splade"]),
    "csr": ("feature-extraction", ["sparse-encoder", "sparse", "csr"]),
    "routed": ("feature-extraction", ["sparse-encoder", "sparse", "asymmetric", "inference-free", "splade"]),
    "late": ("feature-extraction", ["multi-vector", "colbert", "late-interaction"]),
    "stanford": ("feature-extraction", ["multi-vector", "colbert", "late-interaction"]),
    "cross": ("text-ranking", ["cross-encoder", "reranker"]),
    "labels": ("text-ranking", ["cross-encoder", "reranker"]),
    "generative": ("text-ranking", ["cross-encoder", "reranker"]),
}
"""What the reference writes: pipeline, tags after the first."""


def test_what_the_hub_reads(name: str, model_of: Callable[[str], Any]) -> None:
    pipeline, tags = HUB[name]
    assert metadata(card_of(model_of(name))) == {
        "tags": ["sentence-transformers", *tags],
        "pipeline_tag": pipeline,
        "library_name": "sentence-transformers",
    }


def test_facts_of_the_caller(name: str, model_of: Callable[[str], Any]) -> None:
    facts = {"language": "nl", "license": "mit", "model_name": 'Mijn "model": x', "model_id": "me/x", "tags": ["mijn"]}
    card = card_of(model_of(name), **facts, task_name="zoeken")
    found = metadata(card)
    assert (found["language"], found["license"], found["tags"][0]) == (["nl"], "mit", "mijn")
    assert '\n# Mijn "model": x\n' in card
    assert "for zoeken." in card


def test_a_tag_is_not_written_twice(model_of: Callable[[str], Any]) -> None:
    card = model_of("splade").model_card_data_class(tags=["splade"])
    assert metadata(card.render(model_of("splade")))["tags"] == ["splade"]
    card.add_tags("new", "splade", "new")
    assert card.tags == ["splade", "new"]


def test_rendering_changes_no_fact(model_of: Callable[[str], Any]) -> None:
    card = model_of("routed").model_card_data_class()
    before = card.to_dict()
    assert card.render(model_of("routed")) == card.render(model_of("routed"))
    assert card.to_dict() == before


def test_cards_share_no_list(name: str, model_of: Callable[[str], Any]) -> None:
    kind = model_of(name).model_card_data_class
    kind().add_tags("mine")
    assert "mine" not in kind().tags


# --- facts


def test_facts_are_those_of_the_model(name: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(name)
    found = table(card_of(model))
    assert found["longest input"] == f"{model.max_seq_length} tokens"
    assert json.loads(found["prompts"].strip("`")) == model.prompts
    if BUILT[name][0] == "CrossEncoder":
        assert found["labels"] == str(model.num_labels)
        assert found.keys() == {"labels", "longest input", "prompts"}
    else:
        assert found["vector width"] == str(model.get_embedding_dimension())
        assert found["similarity"] == model.similarity_fn_name
        assert found.keys() == {"vector width", "longest input", "prompts", "similarity"}


def test_prompts_do_not_break_the_table(model_of: Callable[[str], Any], tmp_path: Path) -> None:
    prompts = {"query": "a | b\n$title `x`", "document": "naïve 東京: "}
    model = sentence_transformers.MultiVectorEncoder(modules=list(model_of("late")), prompts=prompts, device="cpu")
    cell = table(card_of(model))["prompts"]
    assert json.loads(cell[1:-1].replace("\\|", "|")) == prompts


def test_no_limit_is_unlimited(model_of: Callable[[str], Any]) -> None:
    from sentence_transformers.modules.static import StaticEmbedding

    static = StaticEmbedding(model_of("dense").tokenizer, embedding_dim=8)
    model = sentence_transformers.SentenceTransformer(modules=[static], device="cpu")
    assert model.max_seq_length == float("inf")
    assert table(card_of(model))["longest input"] == "unlimited"


def test_the_modules_are_listed(name: str, model_of: Callable[[str], Any]) -> None:
    card = card_of(model_of(name))
    assert repr(model_of(name)) in card
    assert all(type(part).__name__ in card for part in model_of(name))


# --- the data


@pytest.mark.parametrize("name", ["SentenceTransformer", "SparseEncoder", "MultiVectorEncoder", "CrossEncoder"])
def test_each_encoder_has_its_own_class(name: str) -> None:
    kind = getattr(data, f"{name}ModelCardData")
    assert kind.family == name
    assert getattr(sentence_transformers, name).model_card_data_class is kind
    assert getattr(sentence_transformers, f"{name}ModelCardData") is kind


def test_setters() -> None:
    card = data.SparseEncoderModelCardData(language="nl")
    card.set_language("en")
    card.set_license("mit")
    card.set_model_id("me/x")
    assert (card.language, card.license, card.model_id) == (["en"], "mit", "me/x")
    card.set_language(["en", "de"])
    assert card.language == ["en", "de"]
    assert card.to_dict().keys() == {"language", "license", "tags", "pipeline_tag", "library_name"}
