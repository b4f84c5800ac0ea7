"""Hard negatives: the choice, what models are asked, the cache, the report. Values are in tests/parity too."""

from __future__ import annotations

import logging
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mining_facts as facts
import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.search import mining, negatives, scoring
from sentence_transformers.search.mined import missing_text, statistics_table
from sentence_transformers.search.mining import mine_hard_negatives
from sentence_transformers.search.negatives import Dropped, Limits, choose, members, ranked, within

datasets = pytest.importorskip("datasets", reason="needs the extra train")


@pytest.fixture
def pairs() -> Any:
    return datasets.Dataset.from_dict({"question": facts.ANCHORS, "answer": facts.POSITIVES})


def mine(pairs: Any, model: Any | None = None, **arguments: Any) -> list[dict[str, Any]]:
    arguments = {"corpus": facts.CORPUS, "verbose": False, **arguments}
    return list(mine_hard_negatives(pairs, facts.Lookup() if model is None else model, **arguments))


# --- the choice ------------------------------------------------------------------------------------------------------


def slow_negatives(limits: Limits, ranks: range, wanted: int) -> dict[str, list[str]]:
    """Query -> negatives, one candidate after the other in float64, as the docstring says it."""
    rows = {text: row.astype(np.float64) for text, row in facts.vectors().items()}
    rows = {text: row / np.linalg.norm(row) for text, row in rows.items()}
    of = {
        query: {p for q, p in zip(facts.ANCHORS, facts.POSITIVES, strict=True) if q == query} for query in facts.ANCHORS
    }
    corpus = list(dict.fromkeys([*facts.CORPUS, *facts.POSITIVES]))
    found = {}
    for query, positives in of.items():
        score = {text: float(rows[query] @ rows[text]) for text in corpus}
        lowest = min(score[text] for text in positives)
        ranked = sorted((text for text in corpus if text not in positives), key=lambda text: -score[text])
        ranked = ranked[: ranks.stop + 3 - len(positives)]  # q2 has three positives: the most
        kept = [
            text
            for text in ranked
            if (limits.absolute_margin is None or score[text] + limits.absolute_margin <= lowest)
            and (limits.relative_margin is None or score[text] <= lowest - limits.relative_margin * abs(lowest))
            and (limits.max_score is None or score[text] <= limits.max_score)
            and (limits.min_score is None or score[text] >= limits.min_score)
        ]
        found[query] = kept[ranks.start : ranks.stop][:wanted]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_negatives_are_those_of_the_slow_rule(seed: int, pairs: Any) -> None:
    generator = np.random.default_rng(seed)
    values = [float(value) if generator.random() < 0.5 else None for value in generator.uniform(-0.1, 0.5, 4)]
    limits = Limits(*values)
    start = int(generator.integers(0, 6))
    stop, wanted = start + int(generator.integers(6, 40)), int(generator.integers(1, 6))
    options = {name: getattr(limits, name) for name in limits.given()}
    found: dict[str, list[str]] = {query: [] for query in facts.ANCHORS}
    rows = mine(pairs, range_min=start, range_max=stop, num_negatives=wanted, output_format="labeled-pair", **options)
    for row in rows:
        if row["label"] == 0:
            found[row["question"]].append(row["answer"])
    assert found == slow_negatives(limits, range(start, stop), wanted)


def test_limits_keep_scores_that_equal_them() -> None:
    scores = np.array([[0.9, 0.7, 0.5, 0.1]], dtype=np.float32)
    kept = within(
        scores,
        np.ones((1, 4), dtype=bool),
        np.array([0.9], dtype=np.float32),
        Limits(max_score=0.7, min_score=0.1),
        Dropped({}),
    )
    assert kept.tolist() == [[False, True, True, True]]


def test_a_relative_margin_of_a_negative_score_goes_further_down() -> None:
    assert Limits(relative_margin=0.5).ceilings(np.array([0.5, -0.5]))["relative_margin"].tolist() == [0.25, -0.75]


def test_each_limit_counts_what_the_ones_before_left() -> None:
    dropped = Dropped({})
    scores = np.array([[0.9, 0.7, 0.5, 0.1]], dtype=np.float32)
    limits = Limits(absolute_margin=0.1, max_score=0.6, min_score=0.2)
    within(scores, np.ones((1, 4), dtype=bool), np.array([0.8], dtype=np.float32), limits, dropped)
    assert dropped.counts == {"absolute_margin": (1, 4), "max_score": (1, 3), "min_score": (1, 2)}


def test_positives_are_told_from_other_candidates_of_their_query() -> None:
    rows, positives = np.array([0, 0, 1, 1]), np.array([2, 7, 3, 9])
    pairs, columns = members(np.array([[2, 3, 7], [2, 3, 7]]), rows, positives)
    assert (pairs.tolist(), columns.tolist()) == ([0, 1, 2], [0, 2, 1])


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_positives_are_found_whatever_is_compared_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negatives, "MOST_COMPARED", at_once)
    generator = np.random.default_rng(0)
    ids = generator.permuted(np.tile(np.arange(9), (6, 1)), axis=1)
    rows, positives = np.sort(generator.integers(0, 6, 20)), generator.integers(0, 12, 20)
    pairs, columns = members(ids, rows, positives)
    assert pairs.tolist() == (positives < 9).nonzero()[0].tolist()
    assert ids[rows[pairs], columns].tolist() == positives[pairs].tolist()


def test_a_sample_is_in_order_of_scores_and_never_of_dropped_candidates() -> None:
    scores, ids = np.array([[0.9, 0.7, 0.5, 0.1]], dtype=np.float32), np.array([[11, 13, 12, 10]])
    kept = np.array([[False, True, True, True]])
    chosen = choose((scores, ids), kept, range(0, 4), 2, lambda places, count: [2, 0])
    assert chosen.ids.tolist() == [[13, 10]]
    few = choose((scores, ids), kept, range(2, 4), 2, lambda places, count: [1, 0])
    assert few.counts.tolist() == [1]
    assert few.ids[0, 0] == 10


def test_candidates_are_ranked_anew_and_equal_ones_stay_in_order() -> None:
    scores, ids = np.array([[0.1, 0.9, 0.5, 0.9]], dtype=np.float32), np.array([[10, 11, 12, 13]])
    found = ranked(scores, ids, np.array([[True, False, True, True]]))
    assert [part.tolist() for part in found] == [
        [[np.float32(0.9), np.float32(0.9), 0.5, np.float32(0.1)]],
        [[11, 13, 12, 10]],
        [[False, True, True, True]],
    ]


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_kept_ones_cut_at_the_ranks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = -np.sort(-generator.random((20, 9)).astype(np.float32), axis=1)
    ids, kept = generator.permuted(np.tile(np.arange(9), (20, 1)), axis=1), generator.random((20, 9)) < 0.5
    start, wanted = int(generator.integers(0, 4)), int(generator.integers(1, 5))
    places = range(start, start + wanted + int(generator.integers(0, 9)))
    chosen = choose((scores, ids), kept, places, wanted, None)
    for row in range(20):
        expected = [int(one) for one, there in zip(ids[row], kept[row], strict=True) if there][start : places.stop]
        assert chosen.ids[row, : chosen.counts[row]].tolist() == expected[:wanted]
        of = dict(zip(ids[row].tolist(), scores[row].tolist(), strict=True))
        assert chosen.scores[row, : chosen.counts[row]].tolist() == [of[one] for one in expected[:wanted]]


@pytest.mark.parametrize("strategy", ["top", "random"])
def test_the_size_of_a_block_changes_nothing(strategy: str, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"sampling_strategy": strategy, "seed": 4, "range_max": 20, "max_score": 0.6, "output_scores": True}
    whole = mine(pairs, **options)
    monkeypatch.setattr(mining, "BLOCK_QUERIES", 3)
    in_blocks = mine(pairs, **options)
    for one, other in zip(whole, in_blocks, strict=True):
        np.testing.assert_allclose(one.pop("scores"), other.pop("scores"), atol=1e-6)
        assert one == other


@pytest.mark.parametrize(("queries", "candidates", "most"), [(3, 10**6, 3), (100, 91, 3), (100, 1, 1)])
def test_few_candidates_are_held_at_once(
    queries: int, candidates: int, most: int, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 queries, each with 20 ranks and 3 more for the most positives that one has."""
    monkeypatch.setattr(mining, "BLOCK_QUERIES", queries)
    monkeypatch.setattr(mining, "BLOCK_CANDIDATES", candidates)
    shapes = []
    real = mining.choose
    monkeypatch.setattr(mining, "choose", lambda found, *rest: shapes.append(found[0].shape) or real(found, *rest))
    mine(pairs, range_max=20)
    assert max(shapes) == (most, 23)
    assert sum(rows for rows, _ in shapes) == 8


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_with_a_seed_is_that_of_the_same_draws(seed: int, pairs: Any) -> None:
    """Query after query, from the ranks that are left; whatever was drawn elsewhere before."""
    options = {
        "range_min": 2,
        "range_max": 40,
        "num_negatives": 4,
        "output_format": "n-tuple",
        "include_positives": True,
    }
    all_ranks = mine(pairs, **{**options, "num_negatives": 38})
    random.seed(99)
    sampled = mine(pairs, **options, sampling_strategy="random", seed=seed)
    assert random.random() == random.Random(99).random()  # the global generator was left alone
    own = random.Random(seed)
    drawn = {query: sorted(own.sample(range(38), 4)) for query in dict.fromkeys(facts.ANCHORS)}
    for row, ranks in zip(sampled, all_ranks, strict=True):
        expected = [ranks[f"negative_{place + 1}"] for place in drawn[row["question"]]]
        assert [row[f"negative_{place}"] for place in range(1, 5)] == expected


def test_a_seed_repeats_a_sample_and_another_does_not(pairs: Any) -> None:
    first, again, other = (mine(pairs, sampling_strategy="random", range_max=40, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("margin", [0.0, 1e-7])
def test_a_positive_in_the_ranking_has_the_score_that_limits_are_made_of(
    margin: float, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a search rounds: here it is off by more than the margin, either way."""
    real = mining.searcher

    def inexact(*arguments: Any) -> Any:
        search = real(*arguments)

        def off(queries: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
            scores, ids = search(queries, limit)
            return scores + 1e-5 * (-1.0) ** ids, ids

        return off

    monkeypatch.setattr(mining, "searcher", inexact)
    options = {"include_positives": True, "absolute_margin": margin, "range_max": 80, "num_negatives": 1}
    own = set(zip(facts.ANCHORS, facts.POSITIVES, strict=True))
    found = {row["question"] for row in mine(pairs, **options) if (row["question"], row["negative_1"]) in own}
    assert found == (set(facts.ANCHORS) if margin == 0 else set())


def test_no_negatives_at_all_give_an_empty_data_set_of_the_right_types(pairs: Any) -> None:
    for output_format in ("triplet", "n-tuple", "labeled-list"):
        for output_scores in (False, True):
            options = {"output_format": output_format, "output_scores": output_scores, "verbose": False}
            full = mine_hard_negatives(pairs, facts.Lookup(), **options)
            empty = mine_hard_negatives(pairs, facts.Lookup(), max_score=-2.0, **options)
            assert len(empty) == 0
            assert empty.features == full.features


def test_one_column_cannot_be_both(pairs: Any) -> None:
    with pytest.raises(ValueError, match="different columns"):
        mine(pairs, anchor_column_name="answer")


@pytest.mark.parametrize("columns", [{"a": [], "b": []}, {"a": ["q0"]}])
def test_a_data_set_without_pairs_is_refused(columns: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=r"empty|two columns"):
        mine(datasets.Dataset.from_dict(columns))


# --- the models ------------------------------------------------------------------------------------------------------


def test_every_text_is_encoded_once_with_its_prompt(pairs: Any) -> None:
    model = facts.Lookup()
    mine(pairs, model, query_prompt="ask: ", corpus_prompt_name="passage", batch_size=7)
    (document, corpus, of_corpus), (query, queries, of_queries) = model.calls
    assert (document, query) == ("document", "query")
    assert len(set(corpus)) == len(corpus) == 70  # 60 of the corpus, 10 positives
    assert queries == [f"q{one}" for one in range(8)]
    assert (of_corpus["prompt_name"], of_corpus["prompt"], of_corpus["batch_size"]) == ("passage", None, 7)
    assert (of_queries["prompt_name"], of_queries["prompt"], of_queries["batch_size"]) == (None, "ask: ", 7)


def test_embeddings_that_are_not_finite_are_refused(pairs: Any) -> None:
    model = facts.Lookup()
    model.vectors["c5"] = np.full(facts.WIDTH, np.nan, dtype=np.float32)
    with pytest.raises(ValueError, match="corpus must be finite"):
        mine(pairs, model)


def test_a_cross_encoder_is_not_asked_about_positives_twice(pairs: Any) -> None:
    asked: list[tuple[str, str]] = []

    class Spy(facts.Reader):
        def predict(self, pairs: list[tuple[str, str]], **options: Any) -> torch.Tensor:
            asked.extend(pairs)
            return super().predict(pairs, **options)

    mine(pairs, cross_encoder=Spy(), max_score=0.9, range_max=10)
    assert len(asked) == len(set(asked))
    assert set(zip(facts.ANCHORS, facts.POSITIVES, strict=True)) <= set(asked)


class Pooled(facts.Lookup):
    """Logs the processes that are started and stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.pools: list[Any] = []

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> str:
        self.pools.append(target_devices)
        return "pool"

    def stop_multi_process_pool(self, pool: str) -> None:
        self.pools.append(pool)


@pytest.mark.parametrize(("devices", "started"), [(True, None), (["cpu", "cpu"], ["cpu", "cpu"])])
def test_processes_encode_and_are_stopped(devices: Any, started: Any, pairs: Any) -> None:
    model = Pooled()
    mine(pairs, model, use_multi_process=devices)
    assert model.pools == [started, "pool"]
    assert [options["pool"] for _, _, options in model.calls] == ["pool", "pool"]


def test_processes_are_stopped_when_encoding_fails(pairs: Any) -> None:
    model = Pooled()
    del model.vectors["q3"]
    with pytest.raises(KeyError):
        mine(pairs, model, use_multi_process=True)
    assert model.pools == [None, "pool"]


def test_without_faiss_the_search_is_exact_and_says_so(
    pairs: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scoring, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        found = mine(pairs, use_faiss=True)
    assert found == mine(pairs)
    assert "faiss is not installed" in caplog.text


@pytest.mark.skipif(find_spec("faiss") is None, reason="faiss is not installed")
@pytest.mark.parametrize("batch", [1, 5, 16384])
def test_faiss_finds_the_same(batch: int, pairs: Any) -> None:
    assert mine(pairs, use_faiss=True, faiss_batch_size=batch) == mine(pairs)


# --- the cache -------------------------------------------------------------------------------------------------------


class Owner(facts.Lookup):
    """Has what tells one model from another: its settings and its weights."""

    prompts: dict[str, str] = {}
    default_prompt_name = None
    max_seq_length = 512
    truncate_dim = None

    def parameters(self) -> list[torch.Tensor]:
        return [torch.arange(100.0).view(10, 10), torch.ones(1, device="meta")]


def test_kept_embeddings_are_used_again(pairs: Any, tmp_path: Path) -> None:
    first, second = Owner(), Owner()
    folder = str(tmp_path / "kept")
    before = mine(pairs, first, cache_folder=folder)
    assert mine(pairs, second, cache_folder=folder) == before
    names = sorted(path.name.rpartition("_")[0] for path in (tmp_path / "kept").iterdir())
    assert names == ["corpus_embeddings", "query_embeddings"]
    assert [len(texts) for _, texts, _ in second.calls] == [1, 1]  # only to see whether it is the same model


def test_other_texts_and_prompts_have_other_files(pairs: Any, tmp_path: Path) -> None:
    for options in ({}, {"query_prompt": "a"}, {"query_prompt_name": "a"}, {"corpus": ["c1"]}, {}):
        mine(pairs, Owner(), cache_folder=str(tmp_path), **options)
    assert len(list(tmp_path.glob("query_*.npy"))) == 3
    assert len(list(tmp_path.glob("corpus_*.npy"))) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompts", {"query": "q: "}),
        ("default_prompt_name", "query"),
        ("max_seq_length", 8),
        ("truncate_dim", 4),
        ("parameters", lambda: [torch.arange(100.0).view(10, 10).index_fill(0, torch.tensor(9), 0.5)]),
    ],
)
def test_another_model_has_other_files(name: str, value: Any, pairs: Any, tmp_path: Path) -> None:
    mine(pairs, Owner(), cache_folder=str(tmp_path))
    other = Owner()
    setattr(other, name, value)
    mine(pairs, other, cache_folder=str(tmp_path))
    assert len(list(tmp_path.glob("*.npy"))) == 4


def test_texts_that_are_cut_elsewhere_have_another_name() -> None:
    names = [scoring._fingerprint([], texts) for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["a", "b", "c"], [])]
    assert len(set(names)) == 5
    assert scoring._fingerprint([], ["ab", "c"]) == names[0]


def test_anything_that_can_be_encoded_has_a_name() -> None:
    names = [scoring._fingerprint([], [one]) for one in ("a", ["a"], {"text": "a"}, "\ud800", ("a", "b"))]
    assert len(set(names)) == 5


def test_embeddings_of_another_model_are_not_used(pairs: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine(pairs, Owner(), cache_folder=str(tmp_path))
    tuned = Owner()  # in weights that are not looked at
    tuned.vectors = {text: row[::-1].copy() for text, row in tuned.vectors.items()}
    expected = mine(pairs, tuned, output_scores=True)
    with caplog.at_level(logging.WARNING):
        assert mine(pairs, tuned, cache_folder=str(tmp_path), output_scores=True) == expected
    assert "not those of this model" in caplog.text
    caplog.clear()
    assert mine(pairs, tuned, cache_folder=str(tmp_path), output_scores=True) == expected
    assert caplog.text == ""


# --- the report ------------------------------------------------------------------------------------------------------


def test_silent_unless_verbose(pairs: Any, capfd: pytest.CaptureFixture[str]) -> None:
    mine(pairs, verbose=False)
    assert capfd.readouterr() == ("", "")


def test_statistics_by_hand() -> None:
    table = statistics_table(np.array([1.0, 2.0, 3.0, 6.0]), np.array([0.5]), np.array([])).splitlines()
    assert [line.split() for line in table] == [
        ["Metric", "Positive", "Negative", "Difference"],
        ["Count", "4", "1"],
        ["Mean", "3.0000", "0.5000", "nan"],
        ["Median", "2.0000", "0.5000", "nan"],
        ["Std", "2.1602", "nan", "nan"],
        ["Min", "1.0000", "0.5000", "nan"],
        ["25%", "1.7500", "0.5000", "nan"],
        ["50%", "2.5000", "0.5000", "nan"],
        ["75%", "3.7500", "0.5000", "nan"],
        ["Max", "6.0000", "0.5000", "nan"],
    ]


def test_says_what_was_dropped_and_what_is_missing(pairs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = mine(pairs, verbose=True, max_score=-0.4, range_max=80)
    said = capsys.readouterr().out
    assert "due to the max_score of -0.4." in said
    assert f"for {33 - len(found)} samples" in said  # 11 different pairs, three negatives each
    assert "Consider adjusting the range_max and max_score parameters" in said


def test_advice_without_limits_is_about_the_range() -> None:
    assert "adjusting the range_max parameter if" in missing_text(1, 4, [])
    assert "(25.00%)" in missing_text(1, 4, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"margin": 0.1}, {"absolute_margin": 0.1}),
        ({"as_triplets": True}, {"output_format": "triplet"}),
        ({"as_triplets": False}, {"output_format": "n-tuple"}),
        ({"output_format": "n-tuple-scores"}, {"output_format": "n-tuple", "output_scores": True}),
    ],
)
def test_old_names_warn_where_they_are_used(old: dict[str, Any], new: dict[str, Any], pairs: Any) -> None:
    with pytest.warns(FutureWarning, match="is now") as caught:
        found = mine_hard_negatives(pairs, facts.Lookup(), verbose=False, **old)
    assert caught[0].filename == __file__
    assert list(found) == list(mine_hard_negatives(pairs, facts.Lookup(), verbose=False, **new))


# --- the real model --------------------------------------------------------------------------------------------------


def test_a_real_model_finds_the_near_miss(minilm_folder: Path) -> None:
    pairs = datasets.Dataset.from_dict(
        {
            "query": ["What is the capital of France?", "How do plants make food?", "Who painted the Mona Lisa?"],
            "answer": [
                "Paris is the capital of France.",
                "Plants make food by photosynthesis.",
                "Leonardo da Vinci painted the Mona Lisa.",
            ],
        }
    )
    corpus = [
        "Lyon is a large city in France.",
        "Animals eat plants.",
        "The Mona Lisa hangs in the Louvre.",
        "Iron rusts.",
    ]
    model = SentenceTransformer(str(minilm_folder), device="cpu")
    found = mine_hard_negatives(pairs, model, corpus=corpus, num_negatives=1, use_faiss=True, verbose=False)
    assert found.column_names == ["query", "answer", "negative"]
    assert found["negative"][:] == corpus[:3]


def test_a_real_model_keeps_its_embeddings(minilm_folder: Path, tmp_path: Path) -> None:
    pairs = datasets.Dataset.from_dict({"query": ["a fish", "a tree"], "answer": ["It swims.", "It grows."]})
    found = []
    for cast in (torch.float32, torch.float32, torch.bfloat16):
        model = SentenceTransformer(str(minilm_folder), device="cpu").to(cast)
        options = {"num_negatives": 1, "cache_folder": str(tmp_path), "output_scores": True, "verbose": False}
        found.append(list(mine_hard_negatives(pairs, model, **options)))
        assert len(list(tmp_path.glob("*.npy"))) == (4 if cast == torch.bfloat16 else 2)
    assert found[0] == found[1]
    assert [row["negative"] for row in found[0]] == ["It grows.", "It swims."]
