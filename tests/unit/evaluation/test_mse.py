"""MSEEvaluator and MSEEvaluatorFromDataFrame."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from sentence_transformers.evaluation import embedding
from sentence_transformers.evaluation.embedding import Encoded
from sentence_transformers.evaluation.mse import MSEEvaluator, MSEEvaluatorFromDataFrame, mean_squared_difference
from tests.unit.evaluation.evaluating import Given

TEACHER = Given({"one": [1.0, 0.0, 5.0], "two": [0.0, 2.0, 5.0]})
STUDENT = Given({"eins": [1.0, 1.0, 5.0], "zwei": [0.0, 0.0, 5.0]})


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def test_error_by_hand(tmp_path: Path) -> None:
    # squares 0 1 0, 0 4 0
    evaluator = MSEEvaluator(["one", "two"], ["eins", "zwei"], TEACHER)
    assert evaluator(STUDENT, str(tmp_path)) == {"negative_mse": pytest.approx(-100 * 5 / 6)}
    header, row = rows_of(tmp_path / "mse_evaluation__results.csv")
    assert header == ["epoch", "steps", "MSE"]
    assert float(row[2]) == pytest.approx(100 * 5 / 6)


def test_both_are_truncated() -> None:
    evaluator = MSEEvaluator(["one", "two"], ["eins", "zwei"], TEACHER, truncate_dim=2, name="de")
    assert evaluator(STUDENT) == {"de_negative_mse": pytest.approx(-100 * 5 / 4)}
    assert evaluator.source_embeddings.shape == (2, 2)


def test_the_teacher_encodes_each_text_once_and_only_at_the_start() -> None:
    teacher, student = Given(TEACHER.vectors), Given(STUDENT.vectors)
    evaluator = MSEEvaluator(["one", "two", "one"], ["eins", "zwei", "zwei"], teacher)
    # squares 1, 4 and 1
    for _ in range(2):
        assert evaluator(student) == {"negative_mse": pytest.approx(-100 * 6 / 9)}
    assert [call[1] for call in teacher.calls] == [["one", "two"]]
    assert [call[1] for call in student.calls] == [["eins", "zwei"]] * 2


def test_a_student_of_another_width_is_refused() -> None:
    narrow = Given({"eins": [1.0]})
    with pytest.raises(ValueError, match="teacher's embeddings have 3 dimensions, the student's 1: set truncate_dim"):
        MSEEvaluator(["one"], ["eins"], TEACHER)(narrow)


def test_a_teacher_is_needed() -> None:
    with pytest.raises(ValueError, match="needs a teacher_model"):
        MSEEvaluator(["one"], ["eins"])


@pytest.mark.parametrize("limit", [1, 5, 2**24])
def test_the_error_in_blocks_is_the_error_at_once(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CACHED_ELEMENTS", limit)
    rng = np.random.default_rng(0)
    teacher, rows, places = rng.normal(size=(6, 2)), rng.normal(size=(3, 2)), rng.integers(0, 3, 6)
    expected = ((teacher - rows[places]) ** 2).mean()
    assert mean_squared_difference(teacher, Encoded(rows, places)) == pytest.approx(expected, rel=1e-12)


def test_the_error_of_sparse_rows_is_that_of_dense_rows() -> None:
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    rows, places = torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0]]), np.array([1, 0])
    # squares 0 and 1
    found = mean_squared_difference(teacher.to_sparse(), Encoded(rows.to_sparse(), places))
    assert found == pytest.approx(1 / 6)


TABLE = [{"en": "one", "de": "eins", "fr": ""}, {"en": "two", "de": "zwei", "fr": "eins"}, {"en": " ", "de": "x"}]


def test_a_table_has_an_error_for_every_combination(tmp_path: Path) -> None:
    teacher = Given(TEACHER.vectors)
    evaluator = MSEEvaluatorFromDataFrame(
        [{"fr": "", **row} for row in TABLE], teacher, [("en", "de"), ("en", "fr")], name="m"
    )
    found = evaluator(STUDENT, str(tmp_path))
    # one - eins and two - zwei: squares 1 and 4; two - eins: 1 + 1
    errors = [100 * 5 / 6, 100 * 2 / 3]
    assert found == {"m_negative_mse": pytest.approx(-np.mean(errors))}
    header, row = rows_of(tmp_path / "mse_evaluation_m_results.csv")
    assert header == ["epoch", "steps", "en-de", "en-fr"]
    assert [float(value) for value in row[2:]] == pytest.approx(errors)
    assert [call[1] for call in teacher.calls] == [["one", "two"]]


def test_the_texts_of_a_table_are_encoded_once() -> None:
    student = Given(STUDENT.vectors)
    table = [{"fr": "", **row} for row in TABLE]
    MSEEvaluatorFromDataFrame(table, TEACHER, [("en", "de"), ("en", "fr")])(student)
    assert [call[1] for call in student.calls] == [["eins", "zwei"]]


def test_a_language_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match="'fr' is not a column of row 2"):
        MSEEvaluatorFromDataFrame(TABLE, TEACHER, [("en", "fr")])


def test_a_combination_without_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="No row has a text for both 'en' and 'fr'"):
        MSEEvaluatorFromDataFrame(TABLE[:1], TEACHER, [("en", "fr")])


def test_the_task_has_a_name() -> None:
    assert MSEEvaluator(["one"], ["eins"], TEACHER).description == "Knowledge Distillation"
    assert MSEEvaluatorFromDataFrame(TABLE[:1], TEACHER, [("en", "de")]).description == "Knowledge Distillation"
