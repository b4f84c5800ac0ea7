"""Search with FAISS and USearch as they are: scores, rescoring, indexes, and what is refused."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose
from sentence_transformers.util import quantization

from sentence_transformers import util
from sentence_transformers.ops.quantize import quantize_embeddings
from sentence_transformers.ops.similarity import cos_sim, dot_score
from sentence_transformers.search import vectors
from sentence_transformers.search.semantic import semantic_search
from sentence_transformers.search.vectors import semantic_search_faiss, semantic_search_usearch

faiss = pytest.importorskip("faiss", reason="needs the extra search")
usearch_index = pytest.importorskip("usearch.index", reason="needs the extra search")

BOTH = [semantic_search_faiss, semantic_search_usearch]
QUANTISED = [
    (semantic_search_faiss, "uint8"),
    (semantic_search_faiss, "ubinary"),
    (semantic_search_usearch, "int8"),
    (semantic_search_usearch, "ubinary"),
    (semantic_search_usearch, "binary"),
]
ALL = [(search, "float32") for search in BOTH] + QUANTISED
DIGITS = np.array([[0.0, 255.0], [3.0, 1.0], [255.0, 0.0], [2.0, 2.0]])  # steps of 1 from 0 in both dimensions


def names(value: Any) -> str:
    return value if isinstance(value, str) else str(value.__name__).rpartition("_")[2]


def rows(count: int, width: int = 24, seed: int = 3) -> Any:
    """(count, width) float32."""
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def ranges_of(embeddings: Any) -> Any:
    return np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])


def pairs(found: Any) -> list[list[tuple[int, float]]]:
    return [[(hit["corpus_id"], hit["score"]) for hit in hits] for hits in found[0]]


def ids(found: Any) -> list[list[int]]:
    return [[hit["corpus_id"] for hit in hits] for hits in found[0]]


def stands_for(quantised: Any, precision: str, ranges: Any, width: int) -> Any:
    """What quantised rows stand for, (n, width) float64, number by number."""
    if precision == "ubinary":
        return np.unpackbits(quantised, axis=1)[:, :width].astype(np.float64)
    if precision == "binary":
        return (quantised > 0).astype(np.float64)
    step = (ranges[1] - ranges[0]) / 255
    return ranges[0].astype(np.float64) + (quantised.astype(np.float64) + (128 if precision == "int8" else 0)) * step


# --- Scores by hand.


def test_faiss_scores_floats_by_dot_product() -> None:
    found = semantic_search_faiss([[1.0, 2.0]], [[1.0, 1.0], [3.0, 0.0], [0.0, -1.0]], rescore=False)
    assert pairs(found) == [[(0, 3.0), (1, 3.0), (2, -2.0)]]


def test_usearch_scores_floats_by_cosine_distance() -> None:
    found = semantic_search_usearch([[1.0, 0.0]], [[0.0, 2.0], [5.0, 0.0], [-1.0, 0.0]], rescore=False)
    assert ids(found) == [[1, 0, 2]]
    assert_allclose([score for _, score in pairs(found)[0]], [0.0, 1.0, 2.0], atol=1e-6)


@pytest.mark.parametrize(("search", "precision"), [one for one in QUANTISED if "binary" in one[1]], ids=names)
def test_bits_are_scored_by_how_many_differ(search: Any, precision: str) -> None:
    signs = np.array(
        [[1, 1, 1, 1, -1, -1, -1, -1], [1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, -1, -1, -1, -1, -1]], np.float32
    )
    found = search(signs[:1], quantize_embeddings(signs, precision), corpus_precision=precision, rescore=False)
    assert pairs(found) == [[(0, 0.0), (2, 1.0), (1, 4.0)]]


def test_faiss_scores_steps_by_dot_product() -> None:
    corpus = quantize_embeddings(DIGITS, "uint8")
    found = semantic_search_faiss(
        [[2.0, 3.0]], corpus, corpus_precision="uint8", calibration_embeddings=DIGITS, rescore=False
    )
    assert pairs(found) == [[(0, 765.0), (2, 510.0), (3, 10.0), (1, 9.0)]]


def test_usearch_scores_steps_by_1_less_dot_product() -> None:
    found = semantic_search_usearch(
        np.array([[2, 3]], np.int8), np.array([[1, 1], [5, -9]], np.int8), corpus_precision="int8", rescore=False
    )
    assert pairs(found) == [[(0, 1 - 5.0), (1, 1 + 17.0)]]


@pytest.mark.parametrize(("search", "precision"), [one for one in QUANTISED if "int8" in one[1]], ids=names)
def test_steps_are_rescored_as_the_numbers_they_stand_for(search: Any, precision: str) -> None:
    corpus = quantize_embeddings(DIGITS, precision, ranges=[[0.0, 0.0], [255.0, 255.0]])
    found = search([[2.0, -3.0]], corpus, corpus_precision=precision, ranges=[[0.0, 0.0], [255.0, 255.0]])
    assert pairs(found) == [[(2, 510.0), (1, 3.0), (3, -2.0), (0, -765.0)]]


@pytest.mark.parametrize(("search", "precision"), [one for one in QUANTISED if "binary" in one[1]], ids=names)
def test_bits_are_rescored_as_0_and_1(search: Any, precision: str) -> None:
    corpus = np.array([[1.0, 1, -1], [-1, -1, 1], [-1, 1, -1]])
    found = search([[0.5, 2.0, -4.0]], quantize_embeddings(corpus, precision), corpus_precision=precision)
    assert pairs(found) == [[(0, 2.5), (2, 2.0), (1, -4.0)]]


# --- Properties.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("search", "score"), [(semantic_search_faiss, dot_score), (semantic_search_usearch, cos_sim)])
def test_exact_search_of_floats_is_semantic_search(search: Any, score: Any, seed: int) -> None:
    queries, corpus = rows(7, seed=seed), rows(300, seed=seed + 100)
    found = search(queries, corpus, rescore=False, top_k=12)
    wanted = semantic_search(queries, corpus, top_k=12, score_function=score)
    assert ids(found) == [[hit["corpus_id"] for hit in hits] for hits in wanted]
    scores = np.array([[hit["score"] for hit in hits] for hits in wanted])
    mine = np.array([[value for _, value in hits] for hits in pairs(found)])
    assert_allclose(1 - mine if score is cos_sim else mine, scores, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    embeddings=arrays.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(-2, 2)),
    query=arrays.arrays(np.float32, 3, elements=st.integers(-2, 2)),
)
def test_equal_scores_come_in_the_order_of_the_corpus(embeddings: Any, query: Any) -> None:
    wanted = semantic_search(query, embeddings, top_k=len(embeddings), score_function=dot_score)
    assert semantic_search_faiss(query, embeddings, rescore=False, top_k=len(embeddings))[0] == wanted


@pytest.mark.parametrize("block", [1, 2**22])
@pytest.mark.parametrize("width", [24, 20])
@pytest.mark.parametrize(("search", "precision"), QUANTISED, ids=names)
def test_rescored_hits_are_those_of_the_slow_formula(
    search: Any, precision: str, width: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "BLOCK_NUMBERS", block)
    queries, corpus = rows(5, width, seed=1), rows(80, width)
    ranges = ranges_of(corpus)
    quantised = quantize_embeddings(corpus, precision, ranges=ranges)
    found = search(
        queries, quantised, corpus_precision=precision, ranges=ranges, top_k=20, rescore_multiplier=4
    )  # all rows are candidates
    scores = queries.astype(np.float64) @ stands_for(quantised, precision, ranges, width).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    assert ids(found) == best.tolist()
    assert_allclose(
        [[value for _, value in hits] for hits in pairs(found)], np.take_along_axis(scores, best, 1), rtol=1e-6
    )


@pytest.mark.parametrize(("search", "precision"), QUANTISED, ids=names)
def test_only_candidates_are_rescored(search: Any, precision: str) -> None:
    queries, corpus = rows(4, seed=1), rows(200)
    ranges = ranges_of(corpus)
    arguments = {"corpus_precision": precision, "ranges": ranges}
    quantised = quantize_embeddings(corpus, precision, ranges=ranges)
    candidates = search(queries, quantised, rescore=False, top_k=15, **arguments)
    found = search(queries, quantised, top_k=5, rescore_multiplier=3, **arguments)
    scores = queries.astype(np.float64) @ stands_for(quantised, precision, ranges, 24).T
    for query, hits in enumerate(ids(candidates)):
        assert ids(found)[query] == sorted(hits, key=lambda row: -scores[query, row])[:5]


@pytest.mark.parametrize(("search", "precision"), ALL, ids=names)
def test_a_graph_finds_nearly_all(search: Any, precision: str) -> None:
    queries, corpus = rows(20, seed=1), rows(400)
    ranges = ranges_of(corpus)
    arguments = {"corpus_precision": precision, "ranges": ranges, "rescore": False}
    quantised = quantize_embeddings(corpus, precision, ranges=ranges)
    exact = search(queries, quantised, top_k=10, **arguments)
    near = search(queries, quantised, top_k=10, exact=False, **arguments)
    worst = [hits[-1][1] for hits in pairs(exact)]  # equally distant rows are as good
    is_score = search is semantic_search_faiss and precision != "ubinary"
    good = [
        score >= bar if is_score else score <= bar
        for hits, bar in zip(pairs(near), worst, strict=True)
        for _, score in hits
    ]
    assert len(good) == 200
    assert np.mean(good) > 0.9


# --- Indexes.


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("search", "precision"), ALL, ids=names)
def test_an_index_answers_as_its_corpus(search: Any, precision: str, exact: bool) -> None:
    queries, corpus = rows(6, seed=1), rows(90)
    ranges = ranges_of(corpus)
    arguments = {"corpus_precision": precision, "ranges": ranges, "top_k": 45, "exact": exact}
    first, seconds, index = search(
        queries, quantize_embeddings(corpus, precision, ranges=ranges), output_index=True, **arguments
    )
    again = search(queries, corpus_index=index, output_index=True, **arguments)
    assert again[0] == first
    assert again[2] is index
    assert seconds > 0


@pytest.mark.parametrize(("search", "precision"), ALL, ids=names)
def test_an_index_is_returned_only_on_request(search: Any, precision: str) -> None:
    corpus = rows(20)
    found = search(
        corpus, quantize_embeddings(corpus, precision), corpus_precision=precision, calibration_embeddings=corpus
    )
    assert len(found) == 2
    assert isinstance(found[1], float)


def test_indexes_are_of_the_usual_kinds() -> None:
    corpus = rows(4)
    bits = quantize_embeddings(corpus, "ubinary")
    made = {
        (precision, exact): type(
            semantic_search_faiss(
                corpus, stored, corpus_precision=precision, exact=exact, rescore=False, output_index=True
            )[2]
        )
        for precision, stored in (("float32", corpus), ("ubinary", bits))
        for exact in (True, False)
    }
    assert made == {
        ("float32", True): faiss.IndexFlatIP,
        ("float32", False): faiss.IndexHNSWFlat,
        ("ubinary", True): faiss.IndexBinaryFlat,
        ("ubinary", False): faiss.IndexBinaryHNSW,
    }


def test_exact_search_with_usearch_builds_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> Any:
        raise AssertionError(options)

    corpus = rows(30)
    monkeypatch.setattr(usearch_index, "Index", refuse)
    assert ids(semantic_search_usearch(corpus, corpus, rescore=False, top_k=1)) == [[row] for row in range(30)]


def test_keys_of_a_usearch_index_are_the_ids() -> None:
    corpus = rows(3)
    bits = quantize_embeddings(corpus, "ubinary")
    index = usearch_index.Index(ndim=24, metric="hamming", dtype="b1")
    index.add(np.array([70, 5, 12]), bits)
    found = semantic_search_usearch(corpus, corpus_index=index, corpus_precision="ubinary", top_k=3)
    assert {row[0] for row in ids(found)} == {70, 5, 12}
    assert pairs(found)[0][0] == (70, pytest.approx(corpus[0][corpus[0] > 0].sum(dtype=np.float64)))


def test_scores_of_an_index_by_distance_are_lowest_first() -> None:
    index = faiss.IndexFlatL2(1)
    index.add(np.array([[5.0], [1.0], [2.0]], np.float32))
    assert pairs(semantic_search_faiss([[0.0]], corpus_index=index, rescore=False)) == [[(1, 1.0), (2, 4.0), (0, 25.0)]]


@pytest.mark.parametrize("rescore", [False, True])
def test_neighbours_that_faiss_does_not_find_are_left_out(rescore: bool) -> None:
    centres = faiss.IndexFlatIP(2)
    index = faiss.IndexIVFFlat(centres, 2, 2, faiss.METRIC_INNER_PRODUCT)  # looks into one of its two lists
    steps = np.array([[200, 0], [190, 0], [0, 220], [0, 210]], np.float32)
    index.train(steps)
    index.add(steps)
    index.make_direct_map()
    found = semantic_search_faiss(
        [[250.0, 1.0], [1.0, 250.0]],
        corpus_index=index,
        corpus_precision="uint8",
        ranges=[[0.0, 0.0], [255.0, 255.0]],
        rescore=rescore,
    )
    assert ids(found) == [[0, 1], [2, 3]]


def test_a_query_for_which_nothing_is_found_has_no_hits() -> None:
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(2), 2, 2, faiss.METRIC_INNER_PRODUCT)
    index.train(np.array([[200, 0], [190, 0], [0, 220], [0, 210]], np.float32))
    index.add(np.array([[200, 0], [190, 0]], np.float32))  # the other list stays empty
    found = semantic_search_faiss(
        [[1.0, 250.0]], corpus_index=index, corpus_precision="uint8", ranges=[[0.0, 0.0], [255.0, 255.0]]
    )
    assert ids(found) == [[]]


# --- Forms of input.


@pytest.mark.parametrize("search", BOTH, ids=names)
def test_tensors_lists_and_arrays_are_searched_alike(search: Any) -> None:
    queries, corpus = rows(3, seed=1), rows(20)
    wanted = search(queries, corpus, rescore=False)[0]
    for form in (torch.from_numpy, np.float64, list, np.ndarray.tolist, lambda one: list(torch.from_numpy(one))):
        assert search(form(queries), form(corpus), rescore=False)[0] == wanted


@pytest.mark.parametrize(("search", "precision"), QUANTISED, ids=names)
def test_quantised_corpora_may_be_tensors_or_lists(search: Any, precision: str) -> None:
    queries, corpus = rows(3, seed=1), rows(20)
    quantised = quantize_embeddings(corpus, precision)
    arguments = {"corpus_precision": precision, "ranges": torch.from_numpy(ranges_of(corpus))}
    wanted = search(queries, quantised, **arguments)[0]
    for form in (torch.from_numpy, np.ndarray.tolist, list):
        assert search(torch.from_numpy(queries), form(quantised), **arguments)[0] == wanted


@pytest.mark.parametrize(("search", "precision"), ALL, ids=names)
def test_one_row_is_one_query(search: Any, precision: str) -> None:
    corpus = rows(20)
    quantised, arguments = quantize_embeddings(corpus, precision), {"calibration_embeddings": corpus}
    found = search(corpus[4], quantised, corpus_precision=precision, **arguments)
    assert found[0] == search(corpus[4:5], quantised, corpus_precision=precision, **arguments)[0]
    assert len(found[0]) == 1


@pytest.mark.parametrize("rescore", [False, True])
def test_binary_is_packed_or_signs(rescore: bool) -> None:
    queries, corpus = rows(4, 20, seed=1), rows(50, 20)
    signs, packed = (quantize_embeddings(corpus, "binary", packed=bits) for bits in (False, True))
    assert (signs.shape, packed.shape) == ((50, 20), (50, 3))
    found, other, unsigned = (
        semantic_search_usearch(queries, stored, corpus_precision=precision, top_k=50, rescore=rescore)[0]
        for stored, precision in (
            (signs, "binary"),
            (packed, "binary"),
            (quantize_embeddings(corpus, "ubinary"), "ubinary"),
        )
    )
    assert found == other == unsigned


@pytest.mark.parametrize("query_bits", [False, True])
@pytest.mark.parametrize("corpus_bits", [False, True])
def test_binary_queries_are_packed_or_signs(query_bits: bool, corpus_bits: bool) -> None:
    queries, corpus = rows(4, 20, seed=1), rows(50, 20)
    wanted = semantic_search_usearch(
        queries, quantize_embeddings(corpus, "ubinary"), corpus_precision="ubinary", rescore=False, top_k=50
    )
    found = semantic_search_usearch(
        quantize_embeddings(queries, "binary", packed=query_bits),
        quantize_embeddings(corpus, "binary", packed=corpus_bits),
        corpus_precision="binary",
        rescore=False,
        top_k=50,
    )
    assert found[0] == wanted[0]


@pytest.mark.parametrize(("search", "precision"), QUANTISED, ids=names)
def test_quantised_queries_are_searched_as_floats_are(search: Any, precision: str) -> None:
    queries, corpus = rows(4, seed=1), rows(50)
    arguments = {"corpus_precision": precision, "rescore": False, "ranges": ranges_of(corpus)}
    stored, asked = (quantize_embeddings(one, precision, ranges=ranges_of(corpus)) for one in (corpus, queries))
    assert search(asked, stored, **arguments)[0] == search(queries, stored, **arguments)[0]


# --- Ends: few rows, many, none.


@pytest.mark.parametrize(("search", "precision"), ALL, ids=names)
def test_a_small_corpus_gives_all_its_rows(search: Any, precision: str) -> None:
    corpus = rows(9)
    quantised = quantize_embeddings(corpus, precision)
    for exact in (True, False):
        for some in (corpus, corpus[:1]):
            found = search(
                some, quantised, corpus_precision=precision, top_k=50, calibration_embeddings=corpus, exact=exact
            )
            assert [sorted(hits) for hits in ids(found)] == [list(range(9))] * len(some)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("search", "precision"), ALL, ids=names)
def test_nothing_to_find_gives_empty_lists(search: Any, precision: str, keep: bool) -> None:
    corpus = rows(9)
    quantised = quantize_embeddings(corpus, precision)
    arguments = {"corpus_precision": precision, "output_index": keep}
    assert search(corpus[:2], quantised[:0], **arguments)[0] == [[], []]
    assert search(corpus[:2], [], **arguments)[0] == [[], []]
    assert search(corpus[:2], quantised, top_k=0, **arguments)[0] == [[], []]
    assert search(corpus[:0], quantised, **arguments)[0] == []
    assert search([], quantised, **arguments)[0] == []


def test_an_empty_index_gives_empty_lists() -> None:
    assert semantic_search_faiss(rows(2), corpus_index=faiss.IndexFlatIP(24))[0] == [[], []]
    index = usearch_index.Index(ndim=24, metric="cos", dtype="f32")
    assert semantic_search_usearch(rows(2), corpus_index=index)[0] == [[], []]


@pytest.mark.parametrize("search", BOTH, ids=names)
def test_inputs_are_not_changed(search: Any) -> None:
    queries, corpus = rows(2), rows(9)
    search(queries, corpus)
    assert np.array_equal(queries, rows(2))
    assert np.array_equal(corpus, rows(9))


# --- Warnings and refusals.


@pytest.mark.parametrize("search", BOTH, ids=names)
def test_rescoring_without_need_is_said(search: Any, caplog: pytest.LogCaptureFixture) -> None:
    corpus = rows(9)
    bits = quantize_embeddings(corpus, "ubinary")
    with caplog.at_level(logging.WARNING, logger=vectors.__name__):
        search(corpus, corpus)
        search(bits, bits, corpus_precision="ubinary")
        search(corpus, bits, corpus_precision="ubinary")
        search(corpus, corpus, rescore=False)
    assert ["corpus is not quantized" in record.getMessage() for record in caplog.records] == [True, False]
    assert "query embeddings are quantized" in caplog.records[1].getMessage()


@pytest.mark.parametrize("search", BOTH, ids=names)
def test_either_a_corpus_or_an_index_is_needed(search: Any) -> None:
    corpus = rows(9)
    index = search(corpus, corpus, output_index=True)[2]
    with pytest.raises(ValueError, match="corpus_embeddings or corpus_index.*neither"):
        search(corpus)
    with pytest.raises(ValueError, match="corpus_embeddings or corpus_index.*both"):
        search(corpus, corpus, index)


@pytest.mark.parametrize(("search", "wrong"), [(semantic_search_faiss, "int8"), (semantic_search_usearch, "uint8")])
def test_precisions_that_a_library_lacks_are_refused(search: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"corpus_precision must be one of 'float32'.*got '{wrong}'"):
        search(rows(2), rows(9), corpus_precision=wrong)


@pytest.mark.parametrize("search", BOTH, ids=names)
@pytest.mark.parametrize(
    ("options", "name"), [({"top_k": -1}, "top_k"), ({"top_k": 2.5}, "top_k"), ({"rescore_multiplier": 0}, "rescore_m")]
)
def test_counts_must_be_integers_above_0(search: Any, options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* must be a positive integer"):
        search(rows(2), rows(9), **options)


@pytest.mark.parametrize("through_index", [False, True])
@pytest.mark.parametrize(("search", "precision"), ALL, ids=names)
def test_other_widths_are_refused(search: Any, precision: str, through_index: bool) -> None:
    corpus = rows(9)
    stored = quantize_embeddings(corpus, precision)
    arguments = {"corpus_precision": precision, "calibration_embeddings": rows(9, 40)}
    if through_index:
        options = {"corpus_precision": precision, "output_index": True, "calibration_embeddings": corpus}
        arguments["corpus_index"], stored = search(corpus, stored, **options)[2], None
    with pytest.raises(ValueError, match=r"as wide as the corpus, got shape \(2, 40\)"):
        search(rows(2, 40), stored, **arguments)


@pytest.mark.parametrize("search", BOTH, ids=names)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(search: Any, wrong: float) -> None:
    bad = rows(9).astype(np.float64)
    bad[7, 3] = wrong
    with pytest.raises(ValueError, match="query_embeddings must be finite, but row 7"):
        search(bad, rows(9))
    with pytest.raises(ValueError, match="corpus_embeddings must be finite, but row 7"):
        search(rows(9), bad)


@pytest.mark.parametrize("name", ["ranges", "calibration_embeddings"])
def test_ranges_must_be_finite(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        semantic_search_faiss(
            rows(2), np.zeros((9, 24), np.uint8), corpus_precision="uint8", **{name: np.full((2, 24), np.nan)}
        )


def test_calibration_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="calibration_embeddings must have a row or more"):
        semantic_search_faiss(
            rows(2), np.zeros((9, 24), np.uint8), corpus_precision="uint8", calibration_embeddings=rows(0)
        )


@pytest.mark.parametrize(("search", "precision"), [one for one in QUANTISED if "int8" in one[1]], ids=names)
def test_ranges_of_one_query_are_refused(search: Any, precision: str) -> None:
    corpus = quantize_embeddings(rows(9), precision)
    with pytest.raises(ValueError, match="from a single embedding"):
        search(rows(1), corpus, corpus_precision=precision)


@pytest.mark.parametrize(("search", "precision"), QUANTISED, ids=names)
def test_a_corpus_that_is_not_quantised_is_refused(search: Any, precision: str) -> None:
    with pytest.raises(ValueError, match=f"corpus_embeddings must be u?int8 with corpus_precision='{precision}'"):
        search(rows(2), rows(9), corpus_precision=precision)


def test_bytes_of_the_other_sign_are_refused() -> None:
    signed, unsigned = (quantize_embeddings(rows(9), precision) for precision in ("int8", "uint8"))
    with pytest.raises(ValueError, match="corpus_embeddings must be uint8"):
        semantic_search_faiss(rows(2), signed, corpus_precision="uint8")
    with pytest.raises(ValueError, match="query_embeddings must be int8"):
        semantic_search_usearch(unsigned, signed, corpus_precision="int8")


@pytest.mark.parametrize("search", BOTH, ids=names)
def test_an_index_of_another_kind_is_refused(search: Any) -> None:
    corpus = rows(9)
    bits = quantize_embeddings(corpus, "ubinary")
    of_floats = search(corpus, corpus, output_index=True)[2]
    of_bits = search(corpus, bits, corpus_precision="ubinary", output_index=True)[2]
    with pytest.raises(ValueError, match="corpus_index must .* corpus_precision='ubinary'"):
        search(corpus, corpus_index=of_floats, corpus_precision="ubinary")
    with pytest.raises(ValueError, match="corpus_index must .* corpus_precision='float32'"):
        search(corpus, corpus_index=of_bits)


@pytest.mark.parametrize(
    ("search", "module"), [(semantic_search_faiss, "faiss"), (semantic_search_usearch, "usearch.index")], ids=names
)
def test_a_missing_library_is_named(search: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "sentence-transformers\[search\]"'):
        search(rows(2), rows(9))


def test_names_are_beside_quantize_embeddings_and_not_in_util() -> None:
    assert quantization.semantic_search_faiss is semantic_search_faiss
    assert quantization.semantic_search_usearch is semantic_search_usearch
    assert "semantic_search_faiss" not in dir(util)
    assert "semantic_search_usearch" not in dir(util)
