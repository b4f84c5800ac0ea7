"""The examples of the system description for CrossEncoder and SparseEncoder run word for word, offline.

Small random models with the files of the real ones stand in under their names, so the scores in the comments do not
come out; what transformers computes with the same weights does, and so does all else that the comments say.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tests.integration.snippets import Run, runner, sections, serve
from tests.integration.stand_ins import WORDS, build_reranker, build_splade

RERANK = "Using CrossEncoder for Reranking"
PIPELINE = "Retrieve and Rerank Pipeline"
SPARSE = "Using SparseEncoder for Sparse Embeddings"


@pytest.fixture
def reranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-in for ms-marco-MiniLM-L6-v2, which is in the cache under that name."""
    return serve(tmp_path / "cache", "cross-encoder/ms-marco-MiniLM-L6-v2", build_reranker, monkeypatch)


@pytest.fixture
def splade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for splade-cocondenser-ensembledistil."""
    return serve(tmp_path / "cache", "naver/splade-cocondenser-ensembledistil", build_splade, monkeypatch)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path / "here", monkeypatch, capsys)


def logits(folder: Path, kind: str, *texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model of this class of transformers gives for texts, or for pairs; and the attention mask."""
    import transformers

    tokens = transformers.AutoTokenizer.from_pretrained(folder)(*texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = getattr(transformers, kind).from_pretrained(folder).eval()(**tokens)
    return output.logits, tokens["attention_mask"]


def scores_of(folder: Path, query: str, passages: list[str]) -> np.ndarray[Any, Any]:
    found, _ = logits(folder, "AutoModelForSequenceClassification", [query] * len(passages), passages)
    return found[:, 0].numpy()


def test_nothing_is_left_out_of_these_sections() -> None:
    found = sections()
    assert all(len(found[title].strip().splitlines()) > 15 for title in (RERANK, PIPELINE, SPARSE))


# --- reranking


def test_scores_are_the_logits(reranker: Path, run: Run) -> None:
    names, printed = run(RERANK)
    scores = names["scores"]
    assert (type(scores), scores.shape, scores.dtype) == (np.ndarray, (3,), np.float32)
    assert_allclose(scores, scores_of(reranker, names["query"], names["passages"]), rtol=0, atol=1e-4)
    assert isinstance(names["model"].activation_fn, torch.nn.Identity)
    assert printed.splitlines()[0] == f"Scores: {scores}"


def test_passages_are_ranked_by_score(reranker: Path, run: Run) -> None:
    names, _ = run(RERANK)
    ranked, scores, passages = names["ranked_results"], names["scores"], names["passages"]
    order = sorted(range(3), key=lambda at: -scores[at])
    assert [found["corpus_id"] for found in ranked] == order != [0, 1, 2]
    assert [found["text"] for found in ranked] == [passages[at] for at in order]
    assert_allclose([found["score"] for found in ranked], scores[order], rtol=1e-6)
    assert {type(found["score"]) for found in ranked} == {float}


def test_ranking_is_printed_as_in_the_description(reranker: Path, run: Run) -> None:
    names, printed = run(RERANK)
    comments = sections()[RERANK].split("# Output:\n")[1].splitlines()
    said = "\n".join(comment.removeprefix("#").removeprefix(" ") for comment in comments)
    blank = re.compile(r"#\d \(score: -?\d+\.\d\d\)\n  .*")
    assert blank.sub("#", printed.partition("\n")[2]).strip() == blank.sub("#", said).strip()
    assert re.findall(r"Rank #(\d) \(score: (.*)\)\n  (.*)\n", printed) == [
        (str(found["corpus_id"]), f"{found['score']:.2f}", found["text"]) for found in names["ranked_results"]
    ]


# --- retrieval and reranking


def test_every_answer_is_retrieved_then_reranked(minilm_folder: Path, reranker: Path, run: Run) -> None:
    names, printed = run(PIPELINE)
    hits, answers = names["hits"], names["answers"]
    cosine = torch.nn.functional.cosine_similarity(names["query_embedding"][None], names["answer_embeddings"])
    rescored = scores_of(reranker, names["query"], answers)
    assert sorted(hit["corpus_id"] for hit in hits) == [0, 1, 2]
    for hit in hits:
        assert hit["score"] == pytest.approx(cosine[hit["corpus_id"]].item(), abs=1e-6)
        assert hit["cross-score"] == pytest.approx(rescored[hit["corpus_id"]], abs=1e-4)
    assert [hit["corpus_id"] for hit in hits] == sorted(range(3), key=lambda at: -rescored[at])
    assert printed.splitlines() == [
        "Bi-encoder found 3 candidates",
        "",
        "Top 5 results after reranking:",
        *(f"  Score: {hit['cross-score']:.2f} - {answers[hit['corpus_id']]}" for hit in hits),
    ]


def test_candidates_come_in_the_order_of_the_bi_encoder(minilm_folder: Path, reranker: Path, run: Run) -> None:
    names, _ = run(PIPELINE)
    retrieved = [answer for _, answer in names["sentence_pairs"]]
    by_cosine = sorted(names["hits"], key=lambda hit: -hit["score"])
    assert retrieved == [names["answers"][hit["corpus_id"]] for hit in by_cosine]
    assert retrieved[0] == "Machine learning enables computers to learn from data."
    assert retrieved != [names["answers"][hit["corpus_id"]] for hit in names["hits"]]  # so reranking did something


# --- sparse embeddings


def test_sparse_embeddings_are_splade_over_the_vocabulary(splade: Path, run: Run) -> None:
    names, printed = run(SPARSE)
    embeddings = names["embeddings"]
    assert (tuple(embeddings.shape), embeddings.layout, embeddings.dtype) == (
        (3, WORDS), torch.sparse_coo, torch.float32,
    )  # fmt: skip
    assert printed.splitlines()[0] == "Sparse embeddings shape: torch.Size([3, 30522])"  # the comment: [3, 30522]
    found, mask = logits(splade, "AutoModelForMaskedLM", names["sentences"])
    expected = (torch.log1p(torch.relu(found)) * mask[:, :, None]).amax(1)
    dense = embeddings.to_dense().cpu()
    assert_allclose(dense, expected, rtol=0, atol=1e-5)
    assert embeddings.values().min() > 0


def test_sparse_similarities_are_dot_products(splade: Path, run: Run) -> None:
    names, printed = run(SPARSE)
    dense = names["embeddings"].to_dense().double().cpu().numpy()
    expected, similarities = dense @ dense.T, names["similarities"].cpu()
    assert (tuple(similarities.shape), similarities.layout) == ((3, 3), torch.strided)
    assert_allclose(similarities, expected, rtol=1e-5)
    lines = printed.splitlines()
    assert lines[1] == "Sparse similarities:"
    assert "\n".join(lines[2:5]) == str(names["similarities"])
    assert lines[2].startswith("tensor([[")


def test_sparsity_is_counted(splade: Path, run: Run) -> None:
    names, printed = run(SPARSE)
    counts = [int(row.count_nonzero()) for row in names["embeddings"].to_dense()]
    assert all(0 < count < WORDS / 10 for count in counts)
    active = sum(counts) / 3
    assert names["stats"]["active_dims"] == pytest.approx(active, rel=1e-12)
    assert names["stats"]["sparsity_ratio"] == pytest.approx(1 - active / WORDS, rel=1e-12)
    assert printed.splitlines()[-2:] == [
        f"Sparsity ratio: {100 * (1 - active / WORDS):.2f}%",
        f"Active dimensions: {active:.1f}",
    ]
