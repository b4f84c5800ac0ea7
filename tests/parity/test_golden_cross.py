"""CrossEncoder against the numbers that ``record_encoders.py`` took from the reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encoder_facts as facts
import pytest
import texts
import tiny_heads as heads
import torch
from comparing import GOLDEN, assert_close, assert_fact, rebuilt
from sentence_transformers.cross_encoder.modules import LogitScore

from sentence_transformers import CrossEncoder

RAW = torch.nn.Identity()
PAIRS: list[Any] = facts.PAIRS


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> _Classifiers:
    return _Classifiers(tmp_path_factory.mktemp("classifiers"))


class _Classifiers(dict[str, CrossEncoder]):
    """Name -> model, filled by the tests as they need them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> CrossEncoder:
        recorded = GOLDEN["classifiers"][name]["fingerprint"]
        path = rebuilt(lambda folder: heads.build_classifier(name, folder), self.folder / name, recorded)
        self[name] = CrossEncoder(str(path), device="cpu")
        return self[name]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[CrossEncoder, str]:
    """Three labels: model and path."""
    folder = tmp_path_factory.mktemp("three")
    path = rebuilt(lambda at: heads.build_classifier("bert", at, 3), folder, GOLDEN["cross"]["labels"]["fingerprint"])
    return CrossEncoder(str(path), device="cpu"), str(path)


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the RoBERTa classifier, opened with prompts by the tests."""
    return str(heads.build_classifier("roberta", tmp_path_factory.mktemp("finder")))


def test_inputs_are_those_recorded() -> None:
    inputs = {"pairs": facts.PAIRS, "texts": facts.TEXTS, "documents": facts.DOCUMENTS, "templates": facts.TEMPLATES}
    assert {name: texts.digest(value) for name, value in inputs.items()} == GOLDEN["inputs"]


def test_every_classifier_is_recorded() -> None:
    assert set(GOLDEN["classifiers"]) == set(heads.CLASSIFIERS)


@pytest.mark.parametrize("name", heads.CLASSIFIERS)
def test_classifier_has_the_same_logits(name: str, classifiers: _Classifiers) -> None:
    assert_close(classifiers[name].predict(PAIRS, activation_fn=RAW), GOLDEN["classifiers"][name]["raw"])


@pytest.mark.parametrize("name", heads.CLASSIFIERS)
def test_classifier_has_the_same_logits_one_by_one(name: str, classifiers: _Classifiers) -> None:
    alone = [classifiers[name].predict(pair, activation_fn=RAW) for pair in PAIRS]
    assert_close(alone, GOLDEN["classifiers"][name]["raw"])


@pytest.mark.parametrize("name", heads.CLASSIFIERS)
def test_classifier_has_the_same_default_scores(name: str, classifiers: _Classifiers) -> None:
    assert_close(classifiers[name].predict(PAIRS), GOLDEN["classifiers"][name]["default"])


@pytest.mark.parametrize("name", heads.CLASSIFIERS)
def test_classifier_puts_the_prompt_before_the_first_text(name: str, classifiers: _Classifiers) -> None:
    scores = classifiers[name].predict(PAIRS[:4], prompt=facts.INSTRUCTION, activation_fn=RAW)
    assert_close(scores, GOLDEN["classifiers"][name]["prompt"])


@pytest.mark.parametrize(
    ("name", "options"),
    [("default", {}), ("softmax", {"apply_softmax": True}), ("sigmoid", {"activation_fn": torch.nn.Sigmoid()})],
)
def test_three_labels(name: str, options: dict[str, Any], three: tuple[CrossEncoder, str]) -> None:
    assert_close(three[0].predict(PAIRS, **options), GOLDEN["cross"]["labels"][name])


@pytest.mark.parametrize(
    ("name", "options"), [("none", {}), ("named", {"prompt_name": "find"}), ("max_length_9", {"max_length": 9})]
)
def test_prompts_and_max_length(name: str, options: dict[str, Any], finder: str) -> None:
    model = CrossEncoder(finder, device="cpu", prompts={"find": facts.INSTRUCTION})
    assert_close(model.predict(PAIRS, activation_fn=RAW, **options), GOLDEN["cross"]["prompts"][name])


def test_default_prompt_and_an_empty_prompt_instead(finder: str) -> None:
    prompts = {"find": facts.INSTRUCTION}
    model = CrossEncoder(finder, device="cpu", prompts=prompts, default_prompt_name="find")
    assert_close(model.predict(PAIRS, activation_fn=RAW), GOLDEN["cross"]["prompts"]["default"])
    assert_close(model.predict(PAIRS, activation_fn=RAW, prompt=""), GOLDEN["cross"]["prompts"]["default_off"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("all", {}),
        ("top_3", {"top_k": 3, "return_documents": True}),
        ("prompt", {"prompt_name": "find", "activation_fn": RAW}),
    ],
)
def test_rank(name: str, options: dict[str, Any], finder: str) -> None:
    model = CrossEncoder(finder, device="cpu", prompts={"find": facts.INSTRUCTION})
    found, golden = model.rank(facts.QUERY, facts.DOCUMENTS, **options), GOLDEN["cross"]["rank"][name]
    assert_close([item["score"] for item in found], [item["score"] for item in golden])
    assert [item | {"score": 0} for item in found] == [item | {"score": 0} for item in golden]
    assert all(type(item["score"]) is float for item in found)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("version_2", "sbert_ce_default_activation_function"),
        ("version_4", "sentence_transformers"),
        ("version_6", "config_sentence_transformers"),
        ("untrusted", "untrusted"),
    ],
)
def test_activation_written_by(name: str, where: str, tmp_path: Path) -> None:
    model, golden = (
        CrossEncoder(str(heads.build_activation(tmp_path, where)), device="cpu"),
        GOLDEN["cross"]["activation"],
    )
    assert type(model.activation_fn).__name__ == golden[name]["name"]
    assert_close(model.predict(PAIRS[:3]), golden[name]["scores"])


def test_dense_that_gives_the_scores(tmp_path: Path) -> None:
    golden = GOLDEN["cross"]["dense"]
    model = CrossEncoder(str(rebuilt(heads.build_scoring_dense, tmp_path, golden["fingerprint"])), device="cpu")
    assert model.num_labels == golden["num_labels"]
    assert_close(model.predict(PAIRS, activation_fn=RAW), golden["raw"])
    assert_close(model.predict(PAIRS), golden["default"])


ANSWERING = {"bare": heads.build_answering, "saved": heads.build_answering_saved}


@pytest.fixture(scope="module", params=list(ANSWERING))
def answering(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CrossEncoder, Any]:
    """The generative reranker without a chat template, and what was recorded of it."""
    golden = GOLDEN["answering"][request.param]
    path = rebuilt(ANSWERING[request.param], tmp_path_factory.mktemp(request.param), golden["fingerprint"])
    return CrossEncoder(str(path), device="cpu"), golden


def test_generative_reranker_asks_for_the_same_tokens(answering: tuple[CrossEncoder, Any]) -> None:
    score = list(answering[0])[-1]
    assert isinstance(score, LogitScore)
    assert [score.true_token_id, score.false_token_id] == answering[1]["ids"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("raw", {"activation_fn": RAW}), ("default", {}), ("prompt", {"activation_fn": RAW, "prompt": facts.INSTRUCTION})],
)
def test_generative_reranker(name: str, options: dict[str, Any], answering: tuple[CrossEncoder, Any]) -> None:
    assert_close(answering[0].predict(PAIRS, **options), answering[1][name])


@pytest.mark.parametrize("name", facts.RENDERED)
def test_generative_reranker_without_a_template_reads(name: str, answering: tuple[CrossEncoder, Any]) -> None:
    _assert_rendered(answering[0], name, answering[1]["rendered"][name])


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> _Templates:
    return _Templates(tmp_path_factory.mktemp("templates"))


class _Templates(dict[str, CrossEncoder]):
    """Name of a chat template -> model whose tokenizer has it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> CrossEncoder:
        build = heads.build_answering_saved if name == "qwen" else heads.build_answering
        self[name] = CrossEncoder(str(build(self.folder / name, facts.TEMPLATES[name])), device="cpu")
        return self[name]


@pytest.mark.parametrize("name", facts.TEMPLATES)
def test_template_makes_the_model_accept_messages(name: str, templates: _Templates) -> None:
    assert templates[name].modalities == GOLDEN["templates"][name]["modalities"]


@pytest.mark.parametrize(("template", "name"), [(t, name) for t in facts.TEMPLATES for name in facts.asked(t)])
def test_template_renders(template: str, name: str, templates: _Templates) -> None:
    _assert_rendered(templates[template], name, GOLDEN["templates"][template]["rendered"][name])


@pytest.mark.parametrize("name", [name for name, found in GOLDEN["templates"].items() if "raw" in found])
def test_template_gives_the_same_scores(name: str, templates: _Templates) -> None:
    model, golden = templates[name], GOLDEN["templates"][name]
    assert_close(model.predict(PAIRS, activation_fn=RAW), golden["raw"])
    assert_close(model.predict(PAIRS, activation_fn=RAW, prompt=facts.INSTRUCTION), golden["prompt"])


def _assert_rendered(model: CrossEncoder, name: str, golden: dict[str, Any]) -> None:
    inputs, options = facts.RENDERED[name]
    if "raises" in golden:
        with pytest.raises(ValueError) as caught:
            model.preprocess(inputs, **options)
        # Why it cannot: compared up to the reason, whose words are each implementation's own.
        assert golden["says"].split(" (")[0].split(". ")[0].split(" model ")[-1] in str(caught.value)
        return
    features = model.preprocess(inputs, **options)
    assert model.tokenizer.batch_decode(features["input_ids"]) == golden["texts"]
    assert features["attention_mask"].sum(1).tolist() == golden["counts"]
    assert features["modality"] == golden["modality"]


@pytest.mark.parametrize(("call", "says"), facts.CROSS.items())
def test_fact(call: str, says: str, classifiers: _Classifiers) -> None:
    names = {"m": classifiers["bert"], "cls": CrossEncoder, "path": str(classifiers.folder / "bert")}
    assert_fact(call, says, GOLDEN["facts_cross"][call], names)


@pytest.mark.parametrize(("call", "says"), facts.CROSS_LABELS.items())
def test_fact_of_three_labels(call: str, says: str, three: tuple[CrossEncoder, str]) -> None:
    assert_fact(call, says, GOLDEN["facts_cross_labels"][call], {"m": three[0], "cls": CrossEncoder, "path": three[1]})


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> _Sources:
    return _Sources(tmp_path_factory.mktemp("sources"))


class _Sources(dict[str, str]):
    """Kind of folder -> path."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> str:
        self[name] = str(heads.SOURCES[name](self.folder / name))
        return self[name]


@pytest.mark.parametrize("kind", heads.encoders(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("source", heads.SOURCES)
def test_encoder_opens_with_the_same_modules_and_prompts(source: str, kind: type[Any], sources: _Sources) -> None:
    assert heads.summary(kind(sources[source], device="cpu")) == GOLDEN["opened"][source][kind.__name__]
