"""The model card of each encoder: metadata, facts, and example code that prints what it says."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_heads as heads
from huggingface_hub import ModelCard

import sentence_transformers
from sentence_transformers.cards import data, usage

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
    """The block at its head as the Hub reads it."""
    return dict(ModelCard(card).data.to_dict())


def facts_of(card: str) -> dict[str, str]:
    """What the list of facts says."""
    return dict(re.findall(r"^- \*\*([\w ]+):\*\* (.+)$", card.partition("### Model Sources")[0], re.MULTILINE))


def code(card: str) -> str:
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found[1]


# --- all of it


def test_nothing_is_left_to_fill_in(name: str, model_of: Callable[[str], Any]) -> None:
    card = card_of(model_of(name))
    assert not re.search(r"\{\{|\{%|Undefined|<bound|object at", card)
    assert "None" not in card.partition("### Full Model Architecture")[0]
    assert card.count("```") == 8  # four blocks, all closed


def test_there_are_no_two_blank_lines(name: str, model_of: Callable[[str], Any]) -> None:
    assert "\n\n\n" not in card_of(model_of(name))


def test_sections_of_a_model_that_was_not_trained_here(name: str, model_of: Callable[[str], Any]) -> None:
    found = re.findall(r"^##+ .*", card_of(model_of(name)), re.MULTILINE)
    assert found == [
        "## Model Details",
        "### Model Description",
        "### Model Sources",
        "### Full Model Architecture",
        "## Usage",
        "### Direct Usage (Sentence Transformers)",
        "## Additional Resources",
        "## Citation",
        "### BibTeX",
        "#### Sentence Transformers",
    ]


def test_the_example_prints_what_it_says(
    name: str, model_of: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(name)
    model.save(str(tmp_path))
    card = card_of(model, model_id="me/mine")
    assert card.count('"me/mine"') == 1
    script = code(card).replace('"me/mine"', repr(str(tmp_path)))
    exec(compile(script, "card", "exec"), {})
    printed = capsys.readouterr().out.strip().splitlines()
    said = [line.removeprefix("# ") for line in script.splitlines() if re.match(r"# [\[({t ]", line)]
    said = [line for line in said if not re.match(r"the |how ", line)]
    assert printed and said == [line.rstrip() for line in printed]


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


def test_a_card_is_made_of_a_model_alone(name: str, model_of: Callable[[str], Any]) -> None:
    from sentence_transformers.cards.base import generate_model_card

    assert generate_model_card(model_of(name)) == card_of(model_of(name))


# --- metadata

HUB = {
    "dense": ("sentence-similarity", ["sentence-similarity", "feature-extraction", "dense"]),
    "splade": ("feature-extraction", ["sparse-encoder", "sparse", "splade"]),
    "csr": ("feature-extraction", ["sparse-encoder", "sparse", "csr"]),
    "routed": ("feature-extraction", ["sparse-encoder", "sparse", "asymmetric", "inference-free", "splade"]),
    "late": ("feature-extraction", ["multi-vector", "colbert", "late-interaction"]),
    "stanford": ("feature-extraction", ["multi-vector", "colbert", "late-interaction"]),
    "cross": ("text-ranking", ["cross-encoder", "reranker"]),
    "labels": ("text-classification", ["cross-encoder", "reranker"]),
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


def test_the_order_of_the_metadata(model_of: Callable[[str], Any]) -> None:
    card = model_of("dense").model_card_data_class(language="en", license="mit", train_datasets=[{"id": "a/b"}])
    card.widget = [{"source_sentence": "a", "sentences": ["b"]}]
    card.co2_eq_emissions = {"emissions": 1.0}
    card.came_from("a/base", None)
    card.set_evaluation_metrics(evaluator_named("dev"), {"dev_accuracy": 0.5})
    assert list(card.header(model_of("dense"))) == [
        "language", "license", "library_name", "tags", "datasets", "metrics", "pipeline_tag", "widget", "model-index",
        "co2_eq_emissions", "base_model",
    ]  # fmt: skip


def evaluator_named(name: str) -> Any:
    return SimpleNamespace(
        name=name, description="Some Task", primary_metric=f"{name}_accuracy", get_config_dict=lambda: {}
    )


def test_facts_of_the_caller(name: str, model_of: Callable[[str], Any]) -> None:
    facts = {"language": "nl", "license": "mit", "model_name": 'Mijn "model": x', "model_id": "me/x", "tags": ["mijn"]}
    card = card_of(model_of(name), **facts, task_name="zoeken")
    found = metadata(card)
    assert (found["language"], found["license"], found["tags"][0]) == (["nl"], "mit", "mijn")
    assert '\n# Mijn "model": x\n' in card
    assert "for zoeken." in card


@pytest.mark.parametrize("text", ["on", "1.0", "a: b # c", "x\n\n\ny", "'\"", "- a", "\u2028é", "---\n"])
def test_odd_texts_are_read_as_they_were_written(text: str, model_of: Callable[[str], Any]) -> None:
    card = model_of("dense").model_card_data_class()
    card.widget = [{"source_sentence": text, "sentences": [text]}]
    assert metadata(card.render(model_of("dense")))["widget"] == card.widget


def test_the_metadata_alone_is_that_of_the_card(name: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(name)
    assert model.model_card_data.render(model).startswith(f"---\n{model.model_card_data.to_yaml()}\n---\n")


def test_a_tag_is_not_written_twice(model_of: Callable[[str], Any]) -> None:
    card = model_of("splade").model_card_data_class(tags=["splade"])
    assert metadata(card.render(model_of("splade")))["tags"] == ["splade"]
    card.add_tags("new", "splade", "new")
    card.add_tags(["new", "newer"])
    assert card.tags == ["splade", "new", "newer"]


def test_rendering_changes_no_fact(model_of: Callable[[str], Any]) -> None:
    card = model_of("routed").model_card_data_class()
    before = card.to_dict()
    assert card.render(model_of("routed")) == card.render(model_of("routed"))
    assert card.to_dict() == before


def test_rendering_does_not_build_the_transformers_model(model_of: Callable[[str], Any], tmp_path: Path) -> None:
    model = sentence_transformers.SentenceTransformer(str(heads.build_sentence_dense(tmp_path / "fresh")), device="cpu")
    model.model_card_data.render(model)
    assert "model" not in model[0]._modules


def test_rendering_leaves_training_mode_as_it_was(model_of: Callable[[str], Any]) -> None:
    model = copy.deepcopy(model_of("dense"))
    model.train()
    model[1].eval()
    model.model_card_data.render(model)
    assert [model.training, model[0].training, model[1].training] == [True, True, False]


def test_cards_share_no_list(name: str, model_of: Callable[[str], Any]) -> None:
    kind = model_of(name).model_card_data_class
    kind().add_tags("mine")
    assert "mine" not in kind().tags


def test_a_card_is_copied_and_pickled_with_its_model(model_of: Callable[[str], Any]) -> None:
    for other in (copy.deepcopy(model_of("dense")), pickle.loads(pickle.dumps(model_of("dense")))):
        assert other.model_card_data.model is other
        assert other.model_card_data.render(other) == card_of(model_of("dense"))


def test_the_text_of_a_card_names_no_model_weights(model_of: Callable[[str], Any]) -> None:
    assert "Transformer(" not in repr(model_of("dense").model_card_data)


# --- facts


def test_facts_are_those_of_the_model(name: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(name)
    found = facts_of(card_of(model))
    assert found["Maximum Sequence Length"] == f"{model.max_seq_length} tokens"
    assert found["Supported Modalities"].startswith("Text")
    if BUILT[name][0] == "CrossEncoder":
        assert found["Number of Output Labels"].split(" ")[0] == str(model.num_labels)
        assert "Similarity Function" not in found
    else:
        assert found["Output Dimensionality"] == f"{model.get_embedding_dimension()} dimensions"
        assert found["Similarity Function"] == data.SIMILARITIES[model.similarity_fn_name]


KINDS = {
    "dense": ("Sentence Transformer", "SentenceTransformer"),
    "splade": ("SPLADE Sparse Encoder", "SPLADE Sparse Encoder"),
    "csr": ("CSR Sparse Encoder", "CSR Sparse Encoder"),
    "late": ("Multi-Vector Encoder", "Multi-Vector Encoder"),
    "cross": ("Cross Encoder", "CrossEncoder"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_model_and_its_title(name: str, model_of: Callable[[str], Any]) -> None:
    card = card_of(model_of(name))
    assert (facts_of(card)["Model Type"], re.search(r"^# (.*)", card, re.MULTILINE)[1]) == KINDS[name]  # type: ignore[index]


def test_the_base_model_is_in_title_facts_and_metadata(model_of: Callable[[str], Any]) -> None:
    card = model_of("cross").model_card_data_class()
    card.came_from("acme/base", "abc123")
    text = card.render(model_of("cross"))
    assert "\n# CrossEncoder based on acme/base\n" in text
    assert facts_of(text)["Base Model"] == "[acme/base](https://huggingface.co/acme/base) at <code>abc123</code>"
    assert metadata(text)["base_model"] == "acme/base"


def test_a_base_model_of_the_users_is_kept(model_of: Callable[[str], Any]) -> None:
    card = model_of("cross").model_card_data_class(local_files_only=True)
    assert card.set_base_model("acme/mine", "1")
    card.came_from("acme/other", "2")
    assert (card.base_model, card.base_model_revision) == ("acme/mine", "1")


def test_lengths_of_queries_and_documents(model_of: Callable[[str], Any]) -> None:
    found = facts_of(card_of(model_of("stanford")))  # "query_maxlen": 14, "doc_maxlen": 24
    assert (found["Query Length"], found["Document Length"]) == ("14 tokens", "24 tokens")


def test_prompts_are_no_markup(model_of: Callable[[str], Any]) -> None:
    prompts = {"query": "a | b\n$title `x` <b>", "document": "naïve 東京: "}
    model = sentence_transformers.MultiVectorEncoder(modules=list(model_of("late")), prompts=prompts, device="cpu")
    shown = facts_of(card_of(model))["Prompts"]
    assert not re.search(r"[|`$]|<b>", shown)
    import html

    assert json.loads(html.unescape(shown.removeprefix("<code>").removesuffix("</code>"))) == prompts


def test_no_limit_is_unlimited(model_of: Callable[[str], Any]) -> None:
    from sentence_transformers.modules.static import StaticEmbedding

    static = StaticEmbedding(model_of("dense").tokenizer, embedding_dim=8)
    model = sentence_transformers.SentenceTransformer(modules=[static], device="cpu")
    assert model.max_seq_length == float("inf")
    assert facts_of(card_of(model))["Maximum Sequence Length"] == "unlimited"


def test_the_modules_are_listed(name: str, model_of: Callable[[str], Any]) -> None:
    card = card_of(model_of(name))
    assert repr(model_of(name)) in card
    assert all(type(part).__name__ in card for part in model_of(name))


# --- the example


def plain(model_of: Callable[[str], Any], prompts: dict[str, str] | None = None) -> Any:
    """The dense model with these prompts and no others."""
    return sentence_transformers.SentenceTransformer(modules=list(model_of("dense")), prompts=prompts, device="cpu")


def test_queries_and_documents_are_encoded_apart_where_the_model_has_prompts(model_of: Callable[[str], Any]) -> None:
    assert "encode_query" in code(card_of(plain(model_of, {"query": "q: "})))
    assert "encode_query" in code(card_of(plain(model_of, {"document": "d: "})))
    assert "encode_query" not in code(card_of(plain(model_of, {"clustering": "c: "})))


def test_queries_and_documents_are_encoded_apart_where_the_model_has_routes(model_of: Callable[[str], Any]) -> None:
    assert "model.encode_document(documents)" in code(card_of(model_of("routed")))
    assert "model.encode(sentences)" in code(card_of(model_of("splade")))


def test_the_word_of_the_user_counts(model_of: Callable[[str], Any]) -> None:
    card = model_of("dense").model_card_data_class()
    card.ir_model = False
    assert "encode_query" not in code(card.render(model_of("dense")))


@pytest.mark.parametrize("name", ["dense", "late", "cross"])
def test_texts_of_the_training_data_are_in_the_example(name: str, model_of: Callable[[str], Any]) -> None:
    card = model_of(name).model_card_data_class()
    card.set_widget_examples([{"question": "Quoi?", "answer": "Ça."}, {"question": "Qui est-ce?", "answer": "Moi."}])
    script = code(card.render(model_of(name)))
    assert "Quoi?" in script and "Ça." in script


def test_a_model_with_code_of_its_own_is_opened_with_trust(model_of: Callable[[str], Any]) -> None:
    model = copy.deepcopy(model_of("dense"))
    model.trust_remote_code = True
    assert 'SentenceTransformer("sentence_transformers_model_id", trust_remote_code=True)' in card_of(model)


def test_an_example_that_fails_shows_no_results(
    model_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = plain(model_of)

    def encode(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "encode", encode)
    script = code(card_of(model))
    assert "print(embeddings.shape)\n\n" in script and "tensor(" not in script
    assert "The model card lacks the results of its example code: RuntimeError: out of memory" in caplog.text


def test_a_model_without_text_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute() -> tuple[str, ...]:
        raise AssertionError("was run")

    assert usage.results(SimpleNamespace(modalities=["image"]), compute, 2) == [None, None]


# --- a card that came with the model


def test_a_card_that_came_along_gets_the_name(model_of: Callable[[str], Any]) -> None:
    model = copy.deepcopy(model_of("dense"))
    model._model_card_text = 'Words.\nSentenceTransformer("sentence_transformers_model_id")\n'
    assert card_of(model) == model._model_card_text
    assert card_of(model, model_id="me/x") == 'Words.\nSentenceTransformer("me/x")\n'


def test_a_trained_model_gets_a_new_card(model_of: Callable[[str], Any]) -> None:
    model = copy.deepcopy(model_of("dense"))
    model._model_card_text = "Words."
    assert "Words." not in card_of(model, tags=["generated_from_trainer"])


def test_a_part_that_fails_is_left_out(
    model_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Any, model: Any) -> Any:
        raise KeyError("odd")

    monkeypatch.setattr(data.SentenceTransformerModelCardData, "facts", fails)
    card = card_of(model_of("dense"))
    assert "## Usage" in card and "Model Type" not in card
    assert "The model card lacks what the model is: KeyError: 'odd'" in caplog.text


def test_a_card_that_fails_is_its_title(
    model_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Any, model: Any) -> Any:
        raise KeyError("odd")

    monkeypatch.setattr(data.SentenceTransformerModelCardData, "header", fails)
    assert card_of(model_of("dense"), model_name="Mine") == "# Mine\n"
    assert "everything but its title" in caplog.text


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


@pytest.mark.parametrize("name", ["x", "a/b/c"])
def test_a_name_of_another_form_is_left_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert data.SentenceTransformerModelCardData(model_id=name).model_id is None
    assert f"model_id must be 'user/name', got '{name}'" in caplog.text


def test_task_of_a_cross_encoder_by_its_labels(model_of: Callable[[str], Any]) -> None:
    assert model_of("cross").model_card_data.task_name == "text reranking and semantic search"
    assert model_of("labels").model_card_data.task_name == "text pair classification"


def test_names_of_training_data(model_of: Callable[[str], Any]) -> None:
    card = model_of("dense").model_card_data_class(train_datasets=["Mine", {"name": "NLI", "id": "a/nli"}])
    card.add_train_datasets(["b/sts", "a/nli", "Theirs"])
    text = card.render(model_of("dense"))
    assert metadata(text)["datasets"] == ["a/nli", "b/sts"]
    assert facts_of(text)["Training Data"] == (
        "Mine, [NLI](https://huggingface.co/datasets/a/nli), [b/sts](https://huggingface.co/datasets/b/sts) and Theirs"
    )
