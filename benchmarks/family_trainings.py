"""Trainings of a reranker, a SPLADE and a late interaction model, each measured on questions it has not seen.

As ``trainings``: a program for both interpreters. All three read MedQuAD; what is held out are whole diseases, so that
neither a question nor an answer about them was trained on.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainings import Training, main, run_trainer  # the file next to this one

Row = dict[str, str]

QUESTIONS = 150
"""Held out and asked; the corpus is all answers about the same diseases."""
CANDIDATES = 20
"""Answers of BM25 that are ranked anew."""
PAIRS = 2400
"""Questions that are trained on."""
TOKENS = 128
VECTOR = 64


@dataclass(frozen=True)
class Split:
    """Questions with their answers. train: about other diseases than ``asked``; ``corpus`` has the answers to all of
    those, in any order."""

    train: list[Row]
    asked: list[Row]
    corpus: list[Row]

    @classmethod
    def draw(cls, data: Path, seed: int) -> Split:
        with gzip.open(data / "medquad" / "qa.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = list({row["question"]: row for row in map(json.loads, lines)}.values())
        of_focus: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            of_focus[row["focus"]].append(row)
        names = sorted(name for name, found in of_focus.items() if len({row["answer"] for row in found}) >= 3)
        chance = random.Random(seed)
        chance.shuffle(names)
        held_out = names[: QUESTIONS * 2]
        asked = [chance.choice(of_focus[name]) for name in held_out[:QUESTIONS]]
        corpus = [row for name in held_out for row in of_focus[name]]
        train = [row for name in names[len(held_out) :] for row in of_focus[name]]
        chance.shuffle(train)
        return cls(train, asked, corpus)

    def evaluator(self, kind: Any, name: str) -> Any:
        """One that looks for the answers in the corpus; ``kind``: the class of the family."""
        return kind(
            {row["id"]: row["question"] for row in self.asked},
            {row["id"]: row["answer"] for row in self.corpus},
            {
                row["id"]: {other["id"] for other in self.corpus if other["answer"] == row["answer"]}
                for row in self.asked
            },
            name=name,
            write_csv=False,
        )


def bm25_order(split: Split, count: int) -> list[list[Row]]:
    """For each question the best answers, by BM25 with the usual k1 = 1.2 and b = 0.75.

    Source: Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019
    """
    texts = [Counter(_words(row["answer"])) for row in split.corpus]
    lengths = [sum(text.values()) for text in texts]
    mean = sum(lengths) / len(lengths)
    spread = Counter(word for text in texts for word in text)
    orders = []
    for row in split.asked:
        words = [word for word in set(_words(row["question"])) if word in spread]
        weights = {word: math.log(1 + (len(texts) - spread[word] + 0.5) / (spread[word] + 0.5)) for word in words}
        scores = [
            sum(
                weight * text[word] * 2.2 / (text[word] + 1.2 * (0.25 + 0.75 * length / mean))
                for word, weight in weights.items()
                if word in text
            )
            for text, length in zip(texts, lengths, strict=True)
        ]
        best = sorted(range(len(texts)), key=lambda place: -scores[place])[:count]
        orders.append([split.corpus[place] for place in best])
    return orders


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def rerank(model_folder: Path, data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """MiniLM as a reranker of what BM25 finds; against that order, and against MiniLM's own embeddings."""
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, losses
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
    from sentence_transformers.sentence_transformer.evaluation import RerankingEvaluator

    from sentence_transformers import CrossEncoder, SentenceTransformer

    split = Split.draw(data, seed)
    ranked = [
        {"query": row["question"], "positive": [row["answer"]], "documents": [one["answer"] for one in found]}
        for row, found in zip(split.asked, bm25_order(split, CANDIDATES), strict=True)
    ]
    evaluator = CrossEncoderRerankingEvaluator(ranked, name="medquad", write_csv=False, always_rerank_positives=False)
    dense = RerankingEvaluator(  # the same candidates: the answer, where BM25 found it, and all others
        [
            {
                "query": one["query"],
                "positive": [text for text in one["documents"] if text in one["positive"]],
                "negative": [text for text in one["documents"] if text not in one["positive"]],
            }
            for one in ranked
        ],
        name="medquad",
        write_csv=False,
    )
    found_by_bm25 = sum(one["positive"][0] in one["documents"] for one in ranked) / len(ranked)
    embedder = SentenceTransformer(str(model_folder), device="cpu")
    of_dense = dense(embedder)["medquad_ndcg@10"] * found_by_bm25  # it leaves out questions without an answer
    torch.manual_seed(seed)
    model = CrossEncoder(str(model_folder), num_labels=1, max_length=TOKENS, device="cpu")
    before = evaluator(model)
    trained = run_trainer(
        model,
        Dataset.from_list(list(_labelled(split.train, random.Random(seed)))),
        losses.BinaryCrossEntropyLoss(model),
        seed,
        quick,
        family=CrossEncoderTrainer,
        per_device_train_batch_size=16,
        learning_rate=1e-4,
    )
    after = evaluator(model)
    return {
        **trained,
        "bm25": before["medquad_base_ndcg@10"],
        "dense": of_dense,
        "before": before["medquad_ndcg@10"],
        "after": after["medquad_ndcg@10"],
        "answer_is_candidate": found_by_bm25,
    }


def _labelled(rows: list[Row], chance: random.Random) -> Any:
    """Questions with their own answer, label 1; and with wrong ones, 0: to another question about the disease, to such
    a question about another disease, and any."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        for key in ("focus", "qtype"):
            alike[key, row[key]].append(row["answer"])
    everything = [row["answer"] for row in rows]
    for row in rows[:PAIRS]:
        yield {"query": row["question"], "answer": row["answer"], "label": 1.0}
        for some in (alike["focus", row["focus"]], alike["qtype", row["qtype"]], everything):
            wrong = [answer for answer in chance.sample(some, min(3, len(some))) if answer != row["answer"]]
            yield {"query": row["question"], "answer": (wrong or [chance.choice(everything)])[0], "label": 0.0}


def splade(model_folder: Path, data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """MiniLM's weights below a new head for words, as a sparse encoder."""
    import tempfile

    import torch
    from sentence_transformers.sparse_encoder import SparseEncoderTrainer, losses
    from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator
    from transformers import AutoTokenizer, BertForMaskedLM

    from sentence_transformers import SparseEncoder

    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        BertForMaskedLM.from_pretrained(model_folder).save_pretrained(folder)
        AutoTokenizer.from_pretrained(model_folder, model_max_length=TOKENS).save_pretrained(folder)
        model = SparseEncoder(folder, device="cpu")
    split = Split.draw(data, seed)
    evaluator = split.evaluator(SparseInformationRetrievalEvaluator, "medquad")
    before = evaluator(model)
    inner = losses.SparseMultipleNegativesRankingLoss(model)
    trained = run_trainer(
        model,
        _pairs(split.train),
        losses.SpladeLoss(model, inner, document_regularizer_weight=3e-3, query_regularizer_weight=5e-3),
        seed,
        quick,
        family=SparseEncoderTrainer,
        per_device_train_batch_size=16,
        learning_rate=1e-4,
    )
    return {**trained, "before": _sparse_quality(before), "after": _sparse_quality(evaluator(model))}


def _sparse_quality(found: dict[str, float]) -> dict[str, float]:
    names = {"ndcg@10": "dot_ndcg@10", "query_active": "query_active_dims", "document_active": "corpus_active_dims"}
    return {short: found[f"medquad_{name}"] for short, name in names.items()}


def late(model_folder: Path, data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """MiniLM with a vector for each token; against the mean of the same vectors."""
    import torch
    from sentence_transformers.multi_vector_encoder import MultiVectorEncoderTrainer, losses
    from sentence_transformers.multi_vector_encoder.evaluation import MultiVectorInformationRetrievalEvaluator
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    from sentence_transformers import MultiVectorEncoder, SentenceTransformer

    torch.manual_seed(seed)
    transformer = Transformer(str(model_folder), max_seq_length=TOKENS)
    narrow = Dense(
        transformer.get_embedding_dimension(),
        VECTOR,
        bias=False,
        activation_function=torch.nn.Identity(),
        module_input_name="token_embeddings",
        module_output_name="token_embeddings",
    )
    model = MultiVectorEncoder(
        modules=[transformer, narrow, Normalize(module_input_name="token_embeddings")], device="cpu"
    )
    pooled = SentenceTransformer(modules=[transformer, narrow, Pooling(VECTOR, "mean")], device="cpu")
    split = Split.draw(data, seed)
    of_tokens = split.evaluator(MultiVectorInformationRetrievalEvaluator, "medquad")
    of_means = split.evaluator(InformationRetrievalEvaluator, "medquad")

    def quality() -> dict[str, float]:
        return {
            "tokens": of_tokens(model)["medquad_maxsim_ndcg@10"],
            "mean": of_means(pooled)["medquad_cosine_ndcg@10"],
        }

    before = quality()
    trained = run_trainer(
        model,
        _pairs(split.train),
        losses.MultiVectorMultipleNegativesRankingLoss(model, scale=1.0),
        seed,
        quick,
        family=MultiVectorEncoderTrainer,
        per_device_train_batch_size=16,
        learning_rate=5e-5,
    )
    return {**trained, "before": before, "after": quality()}


def _pairs(rows: list[Row]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{name: row[name] for name in ("question", "answer")} for row in rows[:PAIRS]])


TRAININGS: dict[str, Training] = {"rerank": rerank, "splade": splade, "late": late}

if __name__ == "__main__":
    import sys

    main(TRAININGS, *sys.argv[1:])
