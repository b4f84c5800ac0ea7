"""CrossEncoderRerankingEvaluator."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_heads

from sentence_transformers import CrossEncoder
from sentence_transformers.evaluation.cross.reranking import CrossEncoderRerankingEvaluator
from tests.unit.evaluation.cross.scoring import Scoring


def by_number(query: str, text: str) -> float:
    """Texts are numbers, and score as much."""
    return float(text)


def gains(*ranks: int) -> float:
    """Discounted gains of relevant candidates at these ranks, from 1."""
    return sum(1 / math.log2(rank + 1) for rank in ranks)


NEGATIVE = [
    {"query": "q", "positive": ["8", "5"], "negative": ["9", "7", "1"]},  # ranks 2 and 4
    {"query": "r", "positive": "3", "negative": "2"},  # rank 1
]
SEARCHED: list[Mapping[str, Any]] = [{"query": "q", "positive": ["8", "5"], "documents": ["9", "5", "7"]}]


def test_metrics_equal_the_hand_values() -> None:
    found = CrossEncoderRerankingEvaluator(NEGATIVE)(Scoring(by_number))
    assert found == pytest.approx(
        {
            "map": ((1 / 2 + 2 / 4) / 2 + 1) / 2,
            "mrr@10": (1 / 2 + 1) / 2,
            "ndcg@10": (gains(2, 4) / gains(1, 2) + 1) / 2,
        }
    )


def test_a_search_is_reranked_with_the_positives_that_it_missed() -> None:
    found = CrossEncoderRerankingEvaluator(SEARCHED)(Scoring(by_number))
    assert found == pytest.approx(
        {
            "map": (1 / 2 + 2 / 4) / 2,  # 9, 8, 7, 5
            "mrr@10": 1 / 2,
            "ndcg@10": gains(2, 4) / gains(1, 2),
            "base_map": (1 / 2 + 2 / 4) / 2,  # 9, 5, 7, and then 8
            "base_mrr@10": 1 / 2,
            "base_ndcg@10": gains(2, 4) / gains(1, 2),
        }
    )


def test_only_the_results_of_a_search_may_be_reranked() -> None:
    found = CrossEncoderRerankingEvaluator(SEARCHED, always_rerank_positives=False)(Scoring(by_number))
    assert found["map"] == pytest.approx(1 / 3)  # 9, 7, 5
    assert found["ndcg@10"] == pytest.approx(1 / math.log2(4))
    assert found["base_map"] == pytest.approx((1 / 2 + 2 / 4) / 2)


@pytest.mark.parametrize(("always", "value"), [(True, 1 / 2), (False, 0)])
def test_a_search_that_found_nothing_counts_zero(always: bool, value: float) -> None:
    samples = [{"query": "q", "positive": ["8"], "documents": ["9", "7"]}]
    model = Scoring(by_number)
    found = CrossEncoderRerankingEvaluator(samples, always_rerank_positives=always)(model)
    assert (found["map"], found["mrr@10"]) == (value, value)
    assert [found[f"base_{name}"] for name in ("map", "mrr@10", "ndcg@10")] == [0, 0, 0]
    assert len(model.calls[0][0]) == (3 if always else 0)


def test_a_sample_without_positives_counts_zero_and_is_not_scored() -> None:
    samples = [*NEGATIVE, {"query": "s", "positive": [], "negative": ["1", "2"]}]
    model = Scoring(by_number)
    found = CrossEncoderRerankingEvaluator(samples)(model)
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1) / 3)
    assert all(query != "s" for query, _ in model.calls[0][0])


def test_of_equal_scores_later_candidates_come_first_for_mrr_and_share_the_rest() -> None:
    samples = [{"query": "q", "positive": ["1"], "negative": ["2", "3"]}]
    found = CrossEncoderRerankingEvaluator(samples)(Scoring(lambda query, text: 0.5))
    assert found["mrr@10"] == pytest.approx(1 / 3)
    assert found["map"] == pytest.approx(1 / 3)
    assert found["ndcg@10"] == pytest.approx(gains(1, 2, 3) / 3)


def test_mrr_and_ndcg_look_at_k_candidates() -> None:
    samples = [{"query": "q", "positive": ["1"], "negative": ["3", "2"]}]
    found = CrossEncoderRerankingEvaluator(samples, at_k=2)(Scoring(by_number))
    assert found == {"map": pytest.approx(1 / 3), "mrr@2": 0, "ndcg@2": 0}


def test_all_pairs_of_all_samples_are_scored_in_one_call() -> None:
    model = Scoring(by_number)
    CrossEncoderRerankingEvaluator([*NEGATIVE, *SEARCHED], prompt_name="ask", batch_size=5)(model)
    pairs = [*(("q", text) for text in "85971"), ("r", "3"), ("r", "2"), *(("q", text) for text in "8597")]
    settings = {"prompt_name": "ask", "batch_size": 5, "show_progress_bar": False, "convert_to_numpy": True}
    assert model.calls == [(pairs, settings)]


def test_base_metrics_are_those_of_samples_of_a_search() -> None:
    found = CrossEncoderRerankingEvaluator([*NEGATIVE, *SEARCHED])(Scoring(by_number))
    assert found["base_mrr@10"] == 1 / 2
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)


def test_a_text_that_comes_twice_is_a_candidate_twice() -> None:
    samples = [{"query": "q", "positive": ["5"], "documents": ["5", "9", "5"]}]
    found = CrossEncoderRerankingEvaluator(samples, always_rerank_positives=False)(Scoring(by_number))
    assert found["base_map"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["map"] == pytest.approx(2 / 3)


def test_the_result_does_not_depend_on_the_order_of_samples_and_candidates() -> None:
    random = np.random.default_rng(5)
    samples = [
        {
            "query": str(one),
            "positive": [str(value) for value in random.permutation(20)[:3]],
            "negative": [str(value) for value in 20 + random.permutation(20)[:4]],
        }
        for one in range(9)
    ]
    turned = [{**one, "positive": one["positive"][::-1], "negative": one["negative"][::-1]} for one in samples[::-1]]

    def score(query: str, text: str) -> float:
        return math.sin(int(query) + 3.7 * int(text))

    expected = CrossEncoderRerankingEvaluator(samples)(Scoring(score))
    assert CrossEncoderRerankingEvaluator(turned)(Scoring(score)) == pytest.approx(expected, abs=1e-12)


def test_samples_may_be_the_values_of_a_mapping() -> None:
    given = dict(enumerate(NEGATIVE))
    assert CrossEncoderRerankingEvaluator(given).samples == CrossEncoderRerankingEvaluator(NEGATIVE).samples


def test_samples_are_not_changed() -> None:
    CrossEncoderRerankingEvaluator(NEGATIVE)
    assert NEGATIVE[1]["positive"] == "3"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"positive": ["1"], "negative": ["2"]}, "requires a 'query' key in each sample"),
        ({"query": "q", "negative": ["2"]}, "requires a 'positive' key in each sample"),
        ({"query": "q", "positive": ["1"]}, "requires exactly one of 'negative' and 'documents' in each sample"),
        ({"query": "q", "positive": ["1"], "negative": ["2"], "documents": ["1"]}, "exactly one of 'negative' and"),
    ],
)
def test_bad_samples_are_refused(sample: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEncoderRerankingEvaluator([*NEGATIVE, sample])


def test_k_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at_k"):
        CrossEncoderRerankingEvaluator(NEGATIVE, at_k=0)


def test_without_samples_nothing_can_be_measured() -> None:
    with pytest.raises(ValueError, match="no samples to rerank"):
        CrossEncoderRerankingEvaluator([])(Scoring(by_number))


def test_a_model_with_several_labels_is_refused() -> None:
    model = Scoring(lambda query, text: [0.1, 0.2], num_labels=2)
    with pytest.raises(ValueError, match="needs one score for each pair: a model with num_labels=1"):
        CrossEncoderRerankingEvaluator(NEGATIVE)(model)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="must be numbers, got NaN"):
        CrossEncoderRerankingEvaluator(NEGATIVE)(Scoring(lambda query, text: math.nan))


def test_the_old_name_of_k_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert CrossEncoderRerankingEvaluator(NEGATIVE, mrr_at_k=4).at_k == 4
    assert "at_k=4" in caplog.text


def test_rows_are_added_to_the_csv_file(tmp_path: Path) -> None:
    evaluator = CrossEncoderRerankingEvaluator(SEARCHED, at_k=3, name="dev")
    found = evaluator(Scoring(by_number), str(tmp_path), 1, 20)
    with (tmp_path / "CrossEncoderRerankingEvaluator_dev_results_@3.csv").open() as file:
        header, row = csv.reader(file)
    assert header == ["epoch", "steps", "MAP", "MRR@3", "NDCG@3"] == evaluator.csv_headers
    assert [float(cell) for cell in row] == [1, 20, found["dev_map"], found["dev_mrr@3"], found["dev_ndcg@3"]]
    assert evaluator.primary_metric == "dev_ndcg@3"


def test_metrics_of_a_single_query() -> None:
    evaluator = CrossEncoderRerankingEvaluator(NEGATIVE, at_k=2)
    found = evaluator.compute_metrics([1, 0, 1], np.array([0.1, 0.3, 0.2]))  # ranks 3 and 2
    assert found == pytest.approx((1 / 2, gains(2) / gains(1, 2), (1 / 2 + 2 / 3) / 2))


def test_the_config_says_what_counts() -> None:
    assert CrossEncoderRerankingEvaluator(NEGATIVE).get_config_dict() == {"at_k": 10}
    config = CrossEncoderRerankingEvaluator(SEARCHED, at_k=3).get_config_dict()
    assert config == {"at_k": 3, "always_rerank_positives": True}
    assert CrossEncoderRerankingEvaluator(NEGATIVE).description == "Cross Encoder Reranking"


def test_a_real_model_gives_what_its_own_ranking_gives(tmp_path: Path) -> None:
    model = CrossEncoder(str(tiny_heads.build_classifier("bert", tmp_path / "cross")), device="cpu").train()
    texts = ["the cat", "dogs bark at night", "rain", "a river", "the cat"]
    samples = [{"query": "cats and dogs", "positive": texts[:1], "negative": texts[1:]}]
    found = CrossEncoderRerankingEvaluator(samples)(model)
    assert all(part.training for part in model.modules())
    order = [one["corpus_id"] for one in model.rank("cats and dogs", texts)]
    # "the cat" comes twice, with one score: the negative is said to be first
    best = min(order.index(0), order.index(4))
    assert found["mrr@10"] == 1 / (best + 2)
