"""MultiVectorDistillationEvaluator."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import distillation_facts as facts
import pytest
import torch
from scipy.stats import spearmanr

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.evaluation.distillation import MultiVectorDistillationEvaluator

Evaluator = MultiVectorDistillationEvaluator


class Scored(facts.Late):
    """Encodes a text to itself, and scores pairs by a table."""

    def __init__(self, scores: dict[tuple[str, str], float]) -> None:
        super().__init__()
        self.scores = scores
        self.calls: list[tuple[str, list[str], dict[str, Any]]] = []

    def encode_query(self, texts: list[str], **options: Any) -> Any:
        self.calls.append(("query", list(texts), options))
        return list(texts)

    def encode_document(self, texts: list[str], **options: Any) -> Any:
        self.calls.append(("document", list(texts), options))
        return list(texts)

    def similarity_pairwise(self, queries: Any, documents: Any) -> torch.Tensor:
        return torch.tensor([self.scores[pair] for pair in zip(queries, documents, strict=True)], dtype=torch.float64)


def softmax(scores: list[float]) -> list[float]:
    return [math.exp(one) / sum(map(math.exp, scores)) for one in scores]


def divergence(teacher: list[float], student: list[float], teachers: float = 1.0, students: float = 1.0) -> float:
    wanted = softmax([one / teachers for one in teacher])
    found = softmax([one / students for one in student])
    return students**2 * sum(p * math.log(p / q) for p, q in zip(wanted, found, strict=True))


MODEL = Scored({("q", "a"): 3.0, ("q", "b"): 1.0, ("q", "c"): 2.0, ("r", "a"): 0.0, ("r", "b"): 1.0, ("r", "c"): 4.0})
NESTED = (["q", "r"], [["a", "b", "c"], ["c", "b", "a"]], [[1.0, 0.0, 2.0], [5.0, 3.0, 1.0]])


def test_candidates_by_hand() -> None:
    found = Evaluator(*NESTED)(MODEL)
    # of q the ranks are 3 1 2 and 2 1 3: 1 - 6 * 2 / (3 * 8) = 0.5; of r they agree
    kl = (divergence([1, 0, 2], [3, 1, 2]) + divergence([5, 3, 1], [4, 1, 0])) / 2
    assert found == {"kl_divergence": pytest.approx(kl, rel=1e-12), "spearman": pytest.approx(0.75)}


def test_temperatures_divide_the_scores_and_scale_the_divergence() -> None:
    found = Evaluator(*NESTED, temperature=9.0, student_temperature=3.0, teacher_temperature=0.5)(MODEL)
    kl = divergence([1, 0, 2], [3, 1, 2], 0.5, 3.0) + divergence([5, 3, 1], [4, 1, 0], 0.5, 3.0)
    assert found["kl_divergence"] == pytest.approx(kl / 2, rel=1e-12)
    assert found["spearman"] == pytest.approx(0.75)


def test_pairs_are_one_distribution() -> None:
    found = Evaluator(["q", "r", "q"], ["a", "c", "b"], [0.5, 1.0, 2.0], temperature=2.0)(MODEL)
    assert found["kl_divergence"] == pytest.approx(divergence([0.5, 1, 2], [3, 4, 1], 2.0, 2.0), rel=1e-12)
    assert found["spearman"] == pytest.approx(-0.5)  # ranks 1 2 3 and 2 3 1


def test_a_model_that_agrees_has_no_divergence() -> None:
    found = Evaluator(["q", "r"], [["a", "b"], ["c", "a"]], [[3.0, 1.0], [4.0, 0.0]])(MODEL)
    assert found == {"kl_divergence": pytest.approx(0, abs=1e-15), "spearman": pytest.approx(1)}


def test_scores_of_the_teacher_may_be_shifted() -> None:
    queries, documents, scores = NESTED
    moved = torch.tensor(scores) + torch.tensor([[7.0], [-20.0]])
    assert Evaluator(queries, documents, moved)(MODEL) == pytest.approx(Evaluator(*NESTED)(MODEL), rel=1e-6)


def test_a_candidate_that_the_teacher_rules_out() -> None:
    found = Evaluator(["q"], [["a", "b", "c"]], [[1.0, -math.inf, 0.0]])(MODEL)
    wanted = [*softmax([1.0, 0.0])]
    student = softmax([3.0, 1.0, 2.0])
    kl = wanted[0] * math.log(wanted[0] / student[0]) + wanted[1] * math.log(wanted[1] / student[2])
    assert found["kl_divergence"] == pytest.approx(kl, rel=1e-12)


def test_ranks_are_those_of_scipy() -> None:
    queries, documents, scores = facts.QUERIES, facts.CANDIDATES, facts.OF_CANDIDATES
    found = Evaluator(queries, documents, scores)(facts.Late())
    expected = [
        spearmanr(teacher, [facts.maxsim(facts.vectors(query), facts.vectors(one)) for one in candidates]).statistic
        for query, candidates, teacher in zip(queries, documents, scores, strict=True)
    ]
    assert found["spearman"] == pytest.approx(sum(expected) / len(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([[1.0, 1.0, 1.0], [5.0, 3.0, 1.0]], 1.0), ([[1.0, math.nan, 0.0], [5.0, 3.0, 1.0]], 1.0), ([[2.0] * 3] * 2, 0.0)],
)
def test_queries_without_an_order_do_not_count(scores: list[list[float]], expected: float) -> None:
    assert Evaluator(*NESTED[:2], scores)(MODEL)["spearman"] == pytest.approx(expected)


def test_without_anything_all_is_zero() -> None:
    assert Evaluator([], [], [])(MODEL) == {"kl_divergence": 0.0, "spearman": 0.0}


def test_texts_are_encoded_once_by_their_role() -> None:
    model = Scored(MODEL.scores)
    Evaluator(["q", "r", "q"], [["a", "b"], ["b", "c"], ["c", "a"]], [[0, 1], [1, 0], [2, 3]], batch_size=7)(model)
    settings = {"batch_size": 7, "show_progress_bar": False}
    assert [(role, sorted(texts), given) for role, texts, given in model.calls] == [
        ("query", ["q", "r"], settings),
        ("document", ["a", "b", "c"], settings),
    ]


def test_the_csv_file_gets_a_row_for_each_call(tmp_path: Path) -> None:
    evaluator = Evaluator(*NESTED, name="dev")
    found = [evaluator(MODEL, str(tmp_path), epoch, 5) for epoch in (0, 1)]
    header, *rows = csv.reader((tmp_path / "distillation_evaluation_dev_results.csv").read_text("utf-8").splitlines())
    assert header == ["epoch", "steps", "kl_divergence", "spearman"]
    assert [[float(value) for value in row] for row in rows] == [
        [float(epoch), 5.0, one["dev_kl_divergence"], one["dev_spearman"]] for epoch, one in enumerate(found)
    ]
    assert evaluator.primary_metric == "dev_spearman"


def test_no_csv_file_unless_it_is_wanted(tmp_path: Path) -> None:
    Evaluator(*NESTED, write_csv=False)(MODEL, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_small_model_is_left_as_it_was(tmp_path: Path) -> None:
    import tiny_heads

    model = MultiVectorEncoder(str(tiny_heads.build_late("bert", tmp_path)), device="cpu").train()
    queries, documents = ["hello world", "one two"], [["a b c", "hello"], ["two three, four", "world"]]
    found = Evaluator(queries, documents, [[1.0, 2.0], [0.0, -1.0]])(model)
    assert model.training
    student = [
        model.similarity(model.encode_query([query]), model.encode_document(some)).squeeze(0).tolist()
        for query, some in zip(queries, documents, strict=True)
    ]
    kl = divergence([1, 2], student[0]) + divergence([0, -1], student[1])
    assert found["kl_divergence"] == pytest.approx(kl / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fewer documents", r"queries \(4\), documents \(3\), and scores \(4\) must all have the same length"),
        ("fewer scores", r"queries \(4\), documents \(4\), and scores \(3\)"),
        ("one score for several", r"scores must be 2-D \(num_queries, 3\), got shape \(4,\)"),
        ("several scores for one", r"scores must be 1-D, got shape \(4, 3\)"),
        ("temperature", r"temperature must be a positive finite number, got 0\.0"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, message: str) -> None:
    queries, documents, scores, given = facts.WRONG[name]
    with pytest.raises(ValueError, match=message):
        Evaluator(queries, documents, scores, **given)


@pytest.mark.parametrize("documents", [[["a", "b"], ["c"]], [["a", "b"], "bc"], [[], []]])
def test_all_queries_have_as_many_candidates_and_at_least_one(documents: Any) -> None:
    with pytest.raises(ValueError, match="must have the same length, which is at least 1; got the lengths"):
        Evaluator(["q", "r"], documents, [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"temperature": 2.0}, {"temperature": 2.0}),
        ({"temperature": 2.0, "student_temperature": 2.0}, {"temperature": 2.0}),
        ({"teacher_temperature": 3.0}, {"teacher_temperature": 3.0}),
    ],
)
def test_the_card_shows_temperatures_that_were_set(given: dict[str, float], expected: dict[str, float]) -> None:
    assert Evaluator(*NESTED, **given).get_config_dict() == expected
