"""The example code of a card: lines to copy, each with what it really prints where the model can be run.

Knows the methods that each family of encoders has for its users, no classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .guard import logged

DEFAULT_SENTENCES = [
    "The ferry leaves from the north pier at noon.",
    "At twelve o'clock the boat departs from the northern quay.",
    "She repaired the old radio with parts of a clock.",
]
DEFAULT_SEARCH = [
    "When does the ferry leave?",
    "The ferry leaves from the north pier at noon.",
    "She repaired the old radio with parts of a clock.",
]
"""A query, and documents."""

SHARDED = frozenset({"FullyShardedDataParallel", "FSDPModule"})
"""Classes of modules whose weights are spread over several processes, all of which would have to run."""


@dataclass
class Script:
    """Lines of code."""

    lines: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        """Add lines."""
        self.lines.extend(lines)

    def texts(self, name: str, texts: Sequence[Any]) -> None:
        """Add a list of texts, or of pairs of texts."""
        self.add(f"{name} = [", *(f"    {text!r}," for text in texts), "]")

    def prints(self, expression: str, shown: str | None) -> None:
        """Add a print, and what it prints."""
        self.add(
            f"print({expression})", *([] if shown is None else [f"# {line}".rstrip() for line in shown.splitlines()])
        )

    def __str__(self) -> str:
        return "\n".join(self.lines)


def opening(family: str, model: Any, model_id: str) -> Script:
    """The lines up to a loaded model."""
    script = Script()
    more = ", trust_remote_code=True" if model.trust_remote_code else ""
    script.add(f"from sentence_transformers import {family}", "")
    script.add(f"model = {family}({json.dumps(model_id, ensure_ascii=False)}{more})", "")
    return script


def embedding_code(script: Script, model: Any, texts: Sequence[str] | None) -> str:
    """Sentences are encoded and compared with each other."""
    sentences = list(texts or DEFAULT_SENTENCES)[:3]

    def compute() -> tuple[str, str]:
        embeddings = model.encode(sentences, show_progress_bar=False, on_truncate="ignore")
        return str(embeddings.shape), str(model.similarity(embeddings, embeddings))

    shape, scores = results(model, compute, 2)
    script.texts("sentences", sentences)
    script.add("embeddings = model.encode(sentences)")
    script.prints("embeddings.shape", shape)
    script.add("", "# how close each sentence is to each other one")
    script.prints("model.similarity(embeddings, embeddings)", scores)
    return str(script)


def search_code(script: Script, model: Any, texts: Sequence[str] | None, shape_of: str = "{}.shape") -> str:
    """A query is compared with documents.

    Args:
        shape_of: an expression for the shape of embeddings; {} stands for their name.
    """
    query, *documents = (texts if texts is not None and len(texts) > 1 else DEFAULT_SEARCH)[:4]
    expressions = [shape_of.format(name) for name in ("query_embeddings", "document_embeddings")]

    def compute() -> tuple[str, str]:
        found = {
            "query_embeddings": model.encode_query([query], show_progress_bar=False, on_truncate="ignore"),
            "document_embeddings": model.encode_document(documents, show_progress_bar=False, on_truncate="ignore"),
        }
        shapes = [_shape(one) for one in found.values()]
        return " ".join(shapes), str(model.similarity(*found.values()))

    shapes, scores = results(model, compute, 2)
    script.texts("queries", [query])
    script.texts("documents", documents)
    script.add("query_embeddings = model.encode_query(queries)")
    script.add("document_embeddings = model.encode_document(documents)")
    script.prints(", ".join(expressions), shapes)
    script.add("", "# how well each document answers the query")
    script.prints("model.similarity(query_embeddings, document_embeddings)", scores)
    return str(script)


def _shape(embeddings: Any) -> str:
    """What the expressions of ``search_code`` print: the shape of an array, or those of the arrays of a list."""
    return str([tuple(one.shape) for one in embeddings] if isinstance(embeddings, list) else embeddings.shape)


def pair_code(script: Script, model: Any, rows: Sequence[Sequence[str]]) -> str:
    """Pairs of texts are scored; where a pair gets one number, documents are sorted by it."""
    pairs = [row[:2] for row in rows if len(row) > 1][:3] or [[DEFAULT_SEARCH[0], text] for text in DEFAULT_SEARCH[1:]]
    pairs = [list(pair) for pair in pairs]
    query, documents = pairs[0][0], [pair[1] for pair in pairs]
    is_ranking = model.num_labels == 1

    def compute() -> tuple[str, str]:
        scores = str(model.predict(pairs, show_progress_bar=False, on_truncate="ignore"))
        return scores, str(
            model.rank(query, documents, show_progress_bar=False, on_truncate="ignore")
        ) if is_ranking else ""

    scores, ranked = results(model, compute, 2)
    script.texts("pairs", pairs)
    script.add("scores = model.predict(pairs)")
    script.prints("scores", scores)
    if is_ranking:
        script.add("", "# the same documents, best first for one query", f"query = {query!r}")
        script.add("documents = [document for _, document in pairs]")
        script.prints("model.rank(query, documents)", ranked)
    return str(script)


def results(model: Any, compute: Callable[[], tuple[str, ...]], count: int) -> Sequence[str | None]:
    """What a computation with the model shows; that many times None where the model cannot be run."""
    found: Sequence[str | None] = [None] * count
    if "text" in model.modalities and not is_sharded(model):
        with logged("the results of its example code"), _left_as_it_was(model):
            found = compute()
    return found


def is_sharded(model: Any) -> bool:
    """Whether the weights are spread over processes, so that one alone would wait for the others for ever."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    return bool(kinds & SHARDED) or any(
        type(one.data).__name__ == "DTensor" or "ds_id" in vars(one) for one in model.parameters()
    )


@contextmanager
def _left_as_it_was(model: Any) -> Iterator[None]:
    """Encoding ends training mode; here it goes on. Nothing is asked of a model that is not in training."""
    modes = [(module, module.training) for module in model.modules()] if model.training else []
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training
