"""Models as a search sees them: embeddings, kept in a folder if wanted; a search of them; scores of pairs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import positive
from ..ops.chosen import chosen_products
from ..ops.tensors import to_tensor
from .nearest import Nearest
from .semantic import semantic_search

if TYPE_CHECKING:
    from typing import TypeAlias

    from .negatives import Array

    Search: TypeAlias = Callable[[Tensor, int], tuple[Tensor, Tensor]]
    """(q, D) queries and how many -> scores and ids of the best rows, best first."""
    Score: TypeAlias = Callable[[Array, Array], Array]
    """(n,) places of queries, (n,) places in the corpus -> (n,) float32."""

logger = logging.getLogger(__name__)

PRODUCTS = ("cosine", "dot")
"""Similarities that are the dot product of rows at unit length."""
PAIRS = 4096
"""So many pairs are compared together."""
RERANKED = 2**15
"""So many pairs a cross-encoder gets at once."""
CORPUS_ROWS = 2**14
"""So many rows of the corpus are compared at once by a similarity that is not a product."""
MARKS = 16
"""About so many of its weights tell a matrix from others."""
TEXTS = 1024
"""So many texts are hashed at once."""
CLOSE = 0.99
"""Least cosine of a kept embedding and the same one computed anew; half precision and quantised weights stay above."""


@dataclass
class Encode:
    """Encodes corpus and queries at unit length.

    Args:
        model: has ``encode_query`` and ``encode_document``.
        batch_size: of the model.
        devices: of several processes; True for all there are, False for none.
        is_verbose: show progress.
        folder: keep embeddings there. Files are named by the texts, the prompt and weights of ``model``; whether they
            are really its own is tried out with the first text.
    """

    model: Any
    batch_size: int
    devices: list[str] | bool
    is_verbose: bool
    folder: str | None
    pool: Any = None

    @contextmanager
    def processes(self) -> Iterator[None]:
        """Inside, several processes run if they are asked for."""
        with _pool_of(self.model, self.devices) as self.pool:
            yield

    def __call__(self, kind: str, texts: list[Any], prompt_name: str | None, prompt: str | None) -> Tensor:
        """(n, D) float32 on the CPU. ``kind``: "corpus" or "query".

        Raises: ValueError for embeddings that are not finite.
        """
        encode = self.model.encode_document if kind == "corpus" else self.model.encode_query

        def rows(some: list[Any], **options: Any) -> Array:
            found = encode(
                some,
                batch_size=self.batch_size,
                normalize_embeddings=True,
                convert_to_numpy=True,
                prompt_name=prompt_name,
                prompt=prompt,
                **options,
            )
            return np.asarray(found, dtype=np.float32)

        path = None
        if self.folder is not None:
            name = _fingerprint([*_marks(self.model), prompt_name, prompt], texts)
            path = Path(self.folder) / f"{kind}_embeddings_{name}.npy"
            kept = _kept(path, rows(texts[:1], show_progress_bar=False)) if path.exists() else None
            if kept is not None:
                return torch.from_numpy(kept)
        found = rows(texts, show_progress_bar=self.is_verbose, pool=self.pool)
        if not np.isfinite(found.sum(dtype=np.float64)):
            raise ValueError(f"The embeddings of the {kind} must be finite, but the model made NaN or infinite ones.")
        if path is not None:
            _keep(path, found)
        return torch.from_numpy(found)


def searcher(model: Any, corpus: Tensor, faiss_batch_size: int | None) -> Search:
    """A search of the corpus (n, D), rows at unit length, by the similarity of the model.

    Args:
        faiss_batch_size: search with FAISS, so many queries at once; None, or without FAISS, exactly by products.
    """
    if faiss_batch_size is not None:
        if find_spec("faiss") is not None:
            return _faiss(corpus, positive("faiss_batch_size", faiss_batch_size))
        logger.warning(
            "use_faiss=True, but faiss is not installed: searching without it, which gives the same results."
        )
    corpus = corpus.to(model.device)
    if model.similarity_fn_name in PRODUCTS:
        return Nearest(corpus)

    def search(queries: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        scores, ids = semantic_search(
            queries,
            corpus,
            corpus_chunk_size=CORPUS_ROWS,
            top_k=limit,
            score_function=model.similarity,
            as_arrays=True,
        )
        return torch.from_numpy(scores), torch.from_numpy(ids)

    return search


def pair_scorer(model: Any, queries: Tensor, corpus: Tensor) -> Score:
    """Similarities of different pairs of rows, by the similarity of the model; rows are at unit length, on the CPU."""

    def products(query_ids: Array, ids: Array) -> Array:
        order = np.lexsort((ids, query_ids))
        starts = np.searchsorted(query_ids[order], np.arange(len(queries) + 1))
        found = np.empty(len(ids), dtype=np.float32)
        found[order] = chosen_products(queries, corpus, starts, ids[order]).numpy()
        return found

    def similarities(query_ids: Array, ids: Array) -> Array:
        found = [np.empty(0, dtype=np.float32)]
        for start in range(0, len(ids), PAIRS):
            at = slice(start, start + PAIRS)
            some = to_tensor(model.similarity_pairwise(queries[query_ids[at]], corpus[ids[at]]))
            found.append(some.cpu().float().numpy())
        return np.concatenate(found)

    return products if model.similarity_fn_name in PRODUCTS else similarities


@contextmanager
def reranker(
    cross_encoder: Any, queries: Sequence[Any], corpus: Sequence[Any], batch_size: int, devices: list[str] | bool
) -> Iterator[Score]:
    """Scores of pairs by a model that reads both texts together; inside, its processes run if they are asked for."""
    with _pool_of(cross_encoder, devices) as pool:

        def score(query_ids: Array, ids: Array) -> Array:
            found = [np.empty(0, dtype=np.float32)]
            for start in range(0, len(ids), RERANKED):
                part = slice(start, start + RERANKED)
                texts = [
                    (queries[query], corpus[document])
                    for query, document in zip(query_ids[part].tolist(), ids[part].tolist(), strict=True)
                ]
                some = to_tensor(cross_encoder.predict(texts, batch_size=batch_size, convert_to_tensor=True, pool=pool))
                found.append(some.float().cpu().numpy())
            return np.concatenate(found)

        yield score


@contextmanager
def _pool_of(model: Any, devices: list[str] | bool) -> Iterator[Any]:
    """Processes on these devices; True: on all; False or none: no processes, None."""
    if not devices:
        yield None
        return
    pool = model.start_multi_process_pool(target_devices=None if devices is True else list(devices))
    try:
        yield pool
    finally:
        model.stop_multi_process_pool(pool)


def _faiss(corpus: Tensor, batch: int) -> Search:
    faiss = import_module("faiss")
    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(corpus.numpy())

    def search(queries: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        found = [index.search(some.numpy(), limit) for some in torch.split(queries, batch)]
        scores, ids = (np.concatenate(part) for part in zip(*found, strict=True))
        return torch.from_numpy(scores), torch.from_numpy(ids)

    return search


def _marks(model: Any) -> list[Any]:
    """What tells one model from another: settings of its encoding, and some weights of each of its matrices."""
    weights = [
        [list(one.shape), str(one.dtype), [] if one.is_meta else _some(one.detach().flatten())]
        for one in model.parameters()
    ]
    return [model.prompts, model.default_prompt_name, model.max_seq_length, model.truncate_dim, weights]


def _some(weights: Tensor) -> list[float]:
    step = max(1, len(weights) // MARKS)
    found: list[float] = weights[::step].tolist()
    return found


def _fingerprint(settings: list[Any], texts: list[Any]) -> str:
    """Of settings and of texts in their order: 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings, default=repr).encode())
    for start in range(0, len(texts), TEXTS):
        some = texts[start : start + TEXTS]
        if set(map(type, some)) == {str}:
            digest.update(json.dumps(list(map(len, some))).encode())
            digest.update("".join(some).encode("utf-8", "surrogatepass"))
        else:
            digest.update(json.dumps(some, default=repr).encode())
    return digest.hexdigest()


def _kept(path: Path, first: Array) -> Array | None:
    """The embeddings in the file, unless another model made them: ``first`` (1, D) is what the first one should be."""
    kept: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    if kept.ndim == 2 and kept.shape[1] == first.shape[1] and float(kept[0] @ first[0]) > CLOSE:
        return kept
    logger.warning("The embeddings in %s are not those of this model: encoding again, and writing them anew.", path)
    return None


def _keep(path: Path, rows: Array) -> None:
    """Write all or nothing: another run may read the file meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, rows)
    os.replace(part, path)
