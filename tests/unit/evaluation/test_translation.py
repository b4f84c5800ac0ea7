"""TranslationEvaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sentence_transformers.evaluation.translation import TranslationEvaluator, nearest
from tests.unit.evaluation.evaluating import Given

VECTORS = {
    "one": [2.0, 0.0],
    "two": [0.0, 3.0],
    "three": [1.0, 1.0],
    "eins": [1.0, 0.1],
    "zwei": [0.1, 1.0],
    "drei": [1.0, 0.2],
}
SOURCES, TARGETS = ["one", "two", "three"], ["eins", "zwei", "drei"]


def test_accuracies_by_hand() -> None:
    # cosines of "drei" with "one", "two" and "three": 0.981, 0.196, 0.832
    found = TranslationEvaluator(SOURCES, TARGETS)(Given(VECTORS))
    assert found == pytest.approx({"src2trg_accuracy": 1, "trg2src_accuracy": 2 / 3, "mean_accuracy": 5 / 6})


def test_the_same_text_elsewhere_is_right() -> None:
    found = TranslationEvaluator(["one", "one", "two"], ["eins", "eins", "zwei"])(Given(VECTORS))
    assert found["mean_accuracy"] == 1


def test_every_text_is_encoded_once() -> None:
    model = Given(VECTORS)
    TranslationEvaluator(["one", "two", "one"], ["two", "zwei", "eins"], truncate_dim=2)(model)
    (call,) = model.calls
    assert call[1] == ["one", "two", "zwei", "eins"]
    assert call[2]["truncate_dim"] == 2


def test_of_equally_near_texts_the_first_counts() -> None:
    same = {**VECTORS, "uno": VECTORS["eins"]}
    # "eins" is a source, too, so it comes first among all texts, but not among the targets
    found = TranslationEvaluator(["one", "eins"], ["uno", "eins"])(Given(same))
    assert found["src2trg_accuracy"] == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "others"), [(17, 5), (5, 17), (150, 3000)])
def test_of_equally_near_rows_the_first_is_the_nearest(rows: int, others: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, 6, generator=generator, dtype=dtype)
    right = torch.randn(3, 6, generator=generator, dtype=dtype).repeat(others, 1)[:others]  # each row many times
    expected = torch.nn.functional.cosine_similarity(left[:, None], right[None, :3], dim=2).argmax(1)
    assert nearest(left, right).tolist() == expected.tolist()


def test_nearest_of_sparse_rows_is_that_of_dense_rows() -> None:
    left, right = torch.eye(4)[[2, 0, 3]], torch.eye(4)[[3, 2, 0]]
    assert nearest(left.to_sparse(), right.to_sparse()).tolist() == [1, 2, 0]


def test_wrong_matches_are_printed_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    evaluator = TranslationEvaluator(["one", "one", "two"], ["eins", "drei", "zwei"], print_wrong_matches=True)
    evaluator(Given(VECTORS))
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "",
        "Incorrect  : Source 1 is most similar to target 0 instead of target 1",
        "Source     : one",
        "Pred Target: eins (Score: 0.9950)",
        "True Target: drei (Score: 0.9806)",
        "\t 0 (Score: 0.9950) eins",
        "\t 1 (Score: 0.9806) drei",
        "\t 2 (Score: 0.0995) zwei",
    ]


def test_nothing_is_printed_if_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    TranslationEvaluator(["one"] * 2, ["eins", "drei"])(Given(VECTORS))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("sources", "targets", "says"), [(["a"], [], "must have the same length"), ([], [], "must not be empty")]
)
def test_columns_that_do_not_fit_are_refused(sources: list[str], targets: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TranslationEvaluator(sources, targets)


def test_random_accuracies_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(1)
    sources = [f"s{at}" for at in rng.integers(0, 12, 30)]
    targets = [f"t{at}" for at in rng.integers(0, 12, 30)]
    vectors = {text: rng.normal(size=3).tolist() for text in {*sources, *targets}}
    unit = {text: np.array(row) / np.linalg.norm(row) for text, row in vectors.items()}

    def accuracy(one: list[str], other: list[str]) -> float:
        best = [max(other, key=lambda text: float(unit[text] @ unit[source])) for source in one]
        return float(np.mean([found == right for found, right in zip(best, other, strict=True)]))

    found = TranslationEvaluator(sources, targets)(Given(vectors))
    assert found["src2trg_accuracy"] == accuracy(sources, targets)
    assert found["trg2src_accuracy"] == accuracy(targets, sources)
