"""What evaluators that rank get, from the recorder and from the tests: a model that looks vectors up, data, calls."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

WIDTH = 8


def vector(text: str, is_coarse: bool) -> np.ndarray[Any, Any]:
    """(WIDTH,) float32; coarse ones have four times 1 or -1, so products and cosines are exact, and many are equal."""
    random = np.random.default_rng(zlib.crc32(text.encode()))
    found = random.normal(size=WIDTH)
    if is_coarse:
        found = np.sign(found) * (np.abs(found).argsort().argsort() < 4)
    return found.astype(np.float32)


class Lookup:
    """Stands for a SentenceTransformer; ``told`` is what its card has been told, ``prompts`` what came with texts."""

    device = torch.device("cpu")

    def __init__(self, similarity: str = "cosine", is_coarse: bool = False) -> None:
        self.similarity_fn_name = similarity
        self.is_coarse = is_coarse
        self.told: list[list[Any]] = []
        self.prompts: list[list[Any]] = []
        self.model_card_data = SimpleNamespace(set_evaluation_metrics=self._tell)

    def encode(self, texts: list[str], **options: Any) -> Any:
        return self._encode("", texts, options)

    def encode_query(self, texts: list[str], **options: Any) -> Any:
        return self._encode("query", texts, options)

    def encode_document(self, texts: list[str], **options: Any) -> Any:
        return self._encode("document", texts, options)

    def similarity(self, left: Any, right: Any) -> torch.Tensor:
        left, right = torch.as_tensor(left), torch.as_tensor(right)
        if self.similarity_fn_name == "cosine":
            left, right = (torch.nn.functional.normalize(side, dim=1) for side in (left, right))
        return left @ right.T

    def _encode(self, role: str, texts: list[str], options: dict[str, Any]) -> Any:
        prompts = [role, options.get("prompt"), options.get("prompt_name")]
        if prompts not in self.prompts:
            self.prompts.append(prompts)
        rows = np.array([vector(text, self.is_coarse) for text in texts])[:, : options.get("truncate_dim")]
        return torch.from_numpy(rows) if options.get("convert_to_tensor") else rows

    def _tell(self, evaluator: Any, metrics: dict[str, float], epoch: int = 0, step: int = 0) -> None:
        self.told.append([type(evaluator).__name__, len(metrics), list(metrics)[0], epoch, step])


def retrieval_data(documents: int = 60) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Queries, corpus and relevant documents. d3, d13, ... are equal; two queries have no relevant documents."""
    corpus = {f"d{one}": f"document {one % 10 if one % 10 == 3 else one}" for one in range(documents)}
    queries = {f"q{one}": f"question {one}" for one in range(12)}
    relevant = {f"q{one}": {f"d{(one * 7 + step * 11) % 60}" for step in range(one % 4 + 1)} for one in range(10)}
    relevant["q10"], relevant["q4"] = set(), {"d3", "d33", "nowhere"}
    return queries, corpus, relevant


PREDICTED: dict[str, Any] = {
    "write_predictions": True,
    "accuracy_at_k": [3],
    "precision_recall_at_k": [2],
    "ndcg_at_k": [3],
}
# name -> of the model, of the data, of the evaluator
RETRIEVAL: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}, {"name": "dev"}),
    "ties": ({"is_coarse": True}, {}, {"map_at_k": [12], **PREDICTED}),
    "ties, chunks": ({"is_coarse": True}, {}, {"corpus_chunk_size": 7, "map_at_k": [5], **PREDICTED}),
    "ties, dot": ({"is_coarse": True, "similarity": "dot"}, {}, {"corpus_chunk_size": 25, "map_at_k": [20]}),
    "functions": (
        {},
        {},
        {"score_functions": ["dot", "cosine"], "mrr_at_k": [3, 1], "ndcg_at_k": [2, 30], "name": "x"},
    ),
    "main": (
        {},
        {},
        {"score_functions": ["dot", "cosine"], "main_score_function": "dot", "map_at_k": [3], **PREDICTED},
    ),
    "named predictions": ({}, {}, {"name": "dev", "score_functions": ["dot", "cosine"], **PREDICTED, "map_at_k": [2]}),
    "without csv": ({}, {}, {"write_csv": False, **PREDICTED, "map_at_k": [2]}),
    "width": ({}, {}, {"truncate_dim": 3, "query_prompt": "Q: ", "corpus_prompt_name": "passage"}),
    "few documents": ({}, {"documents": 4}, {"precision_recall_at_k": [2, 6]}),
    "no documents": ({}, {"documents": 0}, {}),
}

SAMPLES: list[dict[str, Any]] = [
    {"query": f"question {one}", "positive": [f"yes {one} {place}" for place in range(one % 3)]}
    | {"negative": f"no {one}" if one == 7 else [f"no {one} {place}" for place in range(one % 5 + 1)]}
    for one in range(12)
]
RERANKING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {"name": "dev"}),
    "one by one": ({}, {"use_batched_encoding": False, "at_k": 2}),
    "ties": ({"is_coarse": True}, {"at_k": 3}),
    "mapping": ({}, {"mrr_at_k": 4, "batch_size": 3, "write_csv": False}),
    "ties, narrow": ({"is_coarse": True}, {"at_k": 2, "truncate_dim": 2, "similarity_fct": "dot"}),
}


def symmetric(graph: dict[str, list[str]], known: dict[str, str]) -> dict[str, dict[str, bool]]:
    """id -> id -> whether they are linked, for all ids: other implementations look all of them up."""
    linked = [(one, other) for one, others in graph.items() for other in others]
    pairs = {*linked, *((other, one) for one, other in linked)}
    return {one: {other: (one, other) in pairs for other in known} for one in known}


SENTENCES = {f"s{one}": f"sentence {one}" for one in range(30)}
PAIRS = [("s1", "s2"), ("s2", "s9"), ("s9", "s4"), ("s11", "s20"), ("s20", "s11"), ("s5", "gone"), ("s29", "s0")]
GRAPH = {"s1": ["s2", "s9"], "s4": ["s9"], "s29": ["s0"]}
PARAPHRASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {"duplicates_list": PAIRS, "name": "dev"}),
    "closure": ({}, {"duplicates_list": PAIRS, "add_transitive_closure": True}),
    "ties": ({"is_coarse": True}, {"duplicates_list": PAIRS}),
    "width": ({}, {"duplicates_list": PAIRS, "truncate_dim": 4}),
    "graph": ({}, {"duplicates_dict": symmetric(GRAPH, SENTENCES), "name": "graph"}),
    "chunks": ({}, {"duplicates_list": PAIRS, "query_chunk_size": 7, "corpus_chunk_size": 11, "top_k": 5}),
    "few pairs": ({}, {"duplicates_list": PAIRS, "max_pairs": 40}),
    "few neighbours": ({}, {"duplicates_list": PAIRS, "top_k": 3}),
    "none": ({}, {}),
}

NANO: dict[str, dict[str, Any]] = {
    "defaults": {"dataset_names": ["MSMARCO", "nq"]},
    "lists": {"dataset_names": ["nq"], "dataset_id": "lists"},
    "all": {"accuracy_at_k": [3], "precision_recall_at_k": [2], "mrr_at_k": [1], "ndcg_at_k": [3], "map_at_k": [5]},
    "options": {
        "dataset_names": ["SciFact", "NFCorpus"],
        "dataset_id": "me/mine",
        "truncate_dim": 4,
        "score_functions": ["dot", "cosine"],
        "aggregate_fn": max,
        "aggregate_key": "top",
        "query_prompts": "Q: ",
        "corpus_prompts": {"SciFact": "S: ", "NFCorpus": "N: "},
        "ndcg_at_k": [5, 3],
    },
}
NANO_REFUSED: dict[str, dict[str, Any]] = {
    "unknown": {"dataset_names": ["nq", "wikipedia"]},
    "empty": {"dataset_names": []},
    "no query prompt": {"dataset_names": ["nq", "fever"], "query_prompts": {"nq": "Q: "}},
    "no corpus prompt": {"dataset_names": ["nq", "fever"], "corpus_prompts": {"fever": "Q: "}},
    "no data": {"dataset_names": ["nq"], "dataset_id": "gone"},
    "no column": {"dataset_names": ["nq"], "dataset_id": "other columns"},
}


NANO_SETS = ["ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ", "QuoraRetrieval"]
NANO_SETS += ["SCIDOCS", "ArguAna", "SciFact", "Touche2020"]
NANO_FOLDERS: dict[str, list[str]] = {
    "sentence-transformers/NanoBEIR-en": [f"Nano{name}" for name in NANO_SETS],
    "me/mine": ["NanoSciFact", "NanoNFCorpus"],
    "lists": ["NanoNQ"],
    "other columns": ["NanoNQ"],
}
"""Folder -> data sets in it."""


Rows = Callable[[str, str, str], list[dict[str, Any]]]
"""Folder, subset, split -> rows."""


def write_nano(
    root: Path,
    folders: dict[str, list[str]] = NANO_FOLDERS,
    subsets: Sequence[str] = ("corpus", "queries", "qrels"),
    rows: Rows | None = None,
) -> None:
    """Folders that ``datasets`` reads like the repositories of these names, if ``root`` is the working directory."""
    for folder, splits in folders.items():
        configs = []
        for subset in subsets:
            files = []
            for split in splits:
                path = root / folder / subset / f"{split}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                found = (rows or nano_rows)(folder, subset, split)
                path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="ascii")
                files.append(f"  - split: {split}\n    path: {subset}/{split}.jsonl\n")
            configs.append(f"- config_name: {subset}\n  data_files:\n{''.join(files)}")
        (root / folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n", encoding="ascii")


def nano_rows(folder: str, subset: str, split: str) -> list[dict[str, Any]]:
    """The rows of a subset of NanoBEIR; of each split others."""
    queries, corpus, relevant = retrieval_data()
    own = {"corpus": corpus, "queries": queries}
    if subset in own:
        key = "_id" if folder != "other columns" else "id"
        texts = {one: "" if one in ("d5", "q1") else f"{text} of {split}" for one, text in own[subset].items()}
        return [{key: one, "text": text} for one, text in texts.items()]
    pairs = [(query, sorted(documents)) for query, documents in relevant.items() if documents]
    if folder == "lists":
        return [{"query-id": query, "corpus-id": documents} for query, documents in pairs]
    return [{"query-id": query, "corpus-id": document} for query, documents in pairs for document in documents]


def with_functions(arguments: dict[str, Any], functions: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """The arguments, in which functions are meant by their names."""
    found = dict(arguments)
    if "score_functions" in found:
        found["score_functions"] = {name: functions[name] for name in found["score_functions"]}
    if "similarity_fct" in found:
        found["similarity_fct"] = functions[found["similarity_fct"]]
    return found


def outcome(evaluator: Any, model: Lookup, folder: Path, **options: Any) -> dict[str, Any]:
    """All that two calls of an evaluator give, write and tell."""
    metrics = evaluator(model, str(folder), 1, 50, **options)
    again = evaluator(model, str(folder), **options)
    assert again == metrics
    return {
        "metrics": metrics,
        "primary": evaluator.primary_metric,
        "config": evaluator.get_config_dict(),
        "description": evaluator.description,
        "told": model.told,
        "prompts": model.prompts,
        "files": {path.name: contents(path) for path in sorted(folder.iterdir())},
    }


def contents(path: Path) -> list[Any]:
    """Header, last row and number of rows of a CSV file; of a JSON lines file, all lines."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        rows = [[_number(cell) for cell in row] for row in csv.reader(file)]
        return [rows[0], rows[-1], len(rows)]


def _number(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell


def refusal(call: Callable[[], Any]) -> list[str]:
    """Type and text of the error."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    raise AssertionError("nothing was refused")
