"""One side of a race: a process that keeps loaded models and obeys requests, one JSON line each, until its input ends.

Runs with the interpreter, and so with the ``sentence_transformers``, of its side; imports nothing of this repository.
Times are seconds, memory is bytes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]


class Worker:
    """Each public method is a request; what it returns is the reply."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}  # by the name of their class: one of each
        self.texts: dict[str, list[Any]] = {}
        self.tokens: dict[str, list[Any]] = {}
        self.rows: dict[str, Any] = {}  # (n, D) float32 tensors
        self.tables: dict[str, Any] = {}  # data sets
        self.cache: str | None = None
        self.loss: Any = None
        self.optimizer: Any = None

    def about(self) -> dict[str, Any]:
        """Where the package comes from, versions of what it computes with, and threads."""
        from importlib.metadata import version

        import torch

        import sentence_transformers

        others = {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
        own = {"python": sys.version.split()[0], "sentence_transformers": sentence_transformers.__version__}
        return {
            "file": str(sentence_transformers.__file__),
            "versions": {**own, **others},
            "threads": torch.get_num_threads(),
        }

    def load(self, model: str, kind: str = "SentenceTransformer") -> dict[str, float]:
        """Load the folder ``model`` as the class ``kind`` with default settings, on the CPU."""
        start = time.perf_counter()
        import sentence_transformers

        self.models[kind] = getattr(sentence_transformers, kind)(model, device="cpu")
        return {"seconds": time.perf_counter() - start}

    def keep(self, name: str, path: str) -> dict[str, int]:
        """Read a JSON list (texts, pairs, or [query, passages]) and keep it under ``name`` for later requests."""
        self.texts[name] = json.loads(Path(path).read_text(encoding="utf-8"))
        return {"texts": len(self.texts[name])}

    def encode(self, name: str, save: str | None = None, every: int = 1) -> dict[str, Any]:
        """Encode the kept texts once; ``save`` writes every ``every``-th row of the result as .npy."""
        texts = self.texts[name]
        start = time.perf_counter()
        rows = self.models["SentenceTransformer"].encode(texts)
        seconds = time.perf_counter() - start
        _save(save, rows[::every])
        return {"seconds": seconds, "shape": list(rows.shape), "bytes": int(rows.nbytes)}

    def encode_sparse(self, name: str, save: str | None = None, every: int = 1) -> dict[str, Any]:
        """``encode`` of the SparseEncoder; ``save`` writes dense rows."""
        texts = self.texts[name]
        start = time.perf_counter()
        rows = self.models["SparseEncoder"].encode(texts)
        seconds = time.perf_counter() - start
        if save is not None:
            _save(save, rows.to_dense()[::every].numpy())
        size = rows._indices().nbytes + rows._values().nbytes  # of a COO tensor that need not be coalesced
        return {"seconds": seconds, "shape": list(rows.shape), "bytes": size, "active": rows._nnz() / len(texts)}

    def predict(self, name: str, save: str | None = None, every: int = 1) -> dict[str, Any]:
        """Score the kept pairs in one call."""
        pairs = self.texts[name]
        start = time.perf_counter()
        scores = self.models["CrossEncoder"].predict(pairs)
        seconds = time.perf_counter() - start
        _save(save, scores[::every])
        return {"seconds": seconds}

    def rank(self, name: str, save: str | None = None, every: int = 1) -> dict[str, Any]:
        """Rank the passages of each kept [query, passages], one call each; ``save`` writes their scores in order."""
        questions = self.texts[name]
        start = time.perf_counter()
        ranked = [self.models["CrossEncoder"].rank(query, passages) for query, passages in questions]
        seconds = time.perf_counter() - start
        scores = [one["score"] for found in ranked for one in sorted(found, key=lambda item: item["corpus_id"])]
        _save(save, scores[::every])
        return {"seconds": seconds}

    def keep_tokens(self, name: str, path: str, lengths: list[int]) -> dict[str, int]:
        """Read token vectors (sum of lengths, D) and keep them under ``name``, one (length, D) tensor an item."""
        import numpy as np
        import torch

        items = torch.split(torch.from_numpy(np.load(path)), lengths)
        self.tokens[name] = [item.clone() for item in items]
        return {"items": len(items)}

    def maxsim(self, names: list[str], save: str | None = None, every: int = 1) -> dict[str, Any]:
        """Score all kept items of the first name with all of the second."""
        from sentence_transformers import util

        queries, documents = (self.tokens[name] for name in names)
        start = time.perf_counter()
        scores = util.maxsim(queries, documents)
        seconds = time.perf_counter() - start
        _save(save, scores[::every].numpy())
        return {"seconds": seconds}

    def keep_rows(self, name: str, path: str) -> dict[str, list[int]]:
        """Read embeddings (n, D) from .npy and keep them under ``name``, as a tensor of this process' own."""
        import numpy as np
        import torch

        self.rows[name] = torch.from_numpy(np.load(path))
        return {"shape": list(self.rows[name].shape)}

    def search(self, names: list[str], options: dict[str, Any], save: str | None = None) -> dict[str, float]:
        """Semantic search of rows by rows; ``save`` writes [query, id, score] of all hits."""
        from sentence_transformers import util

        queries, corpus = (self.rows[name] for name in names)
        start = time.perf_counter()
        found = util.semantic_search(queries, corpus, **options)
        seconds = time.perf_counter() - start
        if save is not None:
            _save(save, [[at, hit["corpus_id"], hit["score"]] for at, hits in enumerate(found) for hit in hits])
        return {"seconds": seconds}

    def paraphrases(self, name: str, save: str | None = None) -> dict[str, Any]:
        """Mine pairs among rows; ``save`` writes [i, j, score] of all pairs."""
        from sentence_transformers import util

        start = time.perf_counter()
        found = util.paraphrase_mining_embeddings(self.rows[name])
        seconds = time.perf_counter() - start
        _save(save, [[one, other, score] for score, one, other in found])
        return {"seconds": seconds, "pairs": len(found)}

    def communities(self, name: str, options: dict[str, Any], save: str | None = None) -> dict[str, Any]:
        """Find communities among rows; ``save`` writes them as JSON, a list of rows each."""
        from sentence_transformers import util

        start = time.perf_counter()
        found = util.community_detection(self.rows[name], **options)
        seconds = time.perf_counter() - start
        if save is not None:
            Path(save).write_text(json.dumps([[int(row) for row in rows] for rows in found]), encoding="utf-8")
        return {"seconds": seconds, "communities": len(found), "rows": sum(map(len, found))}

    def matrix_product(self, names: list[str], width: int) -> dict[str, float]:
        """Multiply rows with the transpose of rows, ``width`` of these at a time, into one place for all."""
        import torch

        queries, corpus = (self.rows[name] for name in names)
        space = torch.empty(len(queries) * min(width, len(corpus)))
        start = time.perf_counter()
        for block in torch.split(corpus, width):
            out = space[: len(queries) * len(block)].view(len(queries), len(block))
            torch.mm(queries, block.t(), out=out)
        return {"seconds": time.perf_counter() - start}

    def keep_table(self, name: str, path: str) -> dict[str, int]:
        """Read a JSON list of pairs and keep it under ``name`` as a data set of questions and answers."""
        from datasets import Dataset

        pairs = json.loads(Path(path).read_text(encoding="utf-8"))
        questions, answers = (list(column) for column in zip(*pairs, strict=True))
        self.tables[name] = Dataset.from_dict({"question": questions, "answer": answers})
        return {"rows": len(pairs)}

    def draw_table(self, path: str, rows: int, repeated: float, labels: int) -> dict[str, int]:
        """Write a data set of two columns of texts, all different but for a part of each, and one of labels."""
        import numpy as np
        from datasets import Dataset

        chance, columns = np.random.default_rng(0), {}
        for first, column in ((0, "anchor"), (rows, "positive")):
            numbers = np.arange(first, first + rows)
            again = chance.random(rows) < repeated
            numbers[again] = chance.integers(first, first + rows, again.sum())
            columns[column] = [f"a sentence with the number {number} and as many words as others" for number in numbers]
        Dataset.from_dict({**columns, "label": chance.integers(labels, size=rows)}).save_to_disk(path)
        return {"rows": rows}

    def open_table(self, name: str, path: str) -> dict[str, int]:
        """Read a data set that was written, and keep it."""
        from datasets import load_from_disk

        self.tables[name] = load_from_disk(path, keep_in_memory=True)
        return {"rows": len(self.tables[name])}

    def batches(self, name: str, sampler: str, size: int, options: dict[str, Any]) -> dict[str, Any]:
        """Make a sampler of a kept data set and draw two epochs of batches.

        Returns: ``seconds`` of making it and the first epoch, ``later`` of the second, how many batches the first has,
            and a ``digest`` of both.
        """
        import hashlib

        import torch
        from datasets import disable_progress_bars
        from sentence_transformers.base import sampler as samplers  # type: ignore[import-not-found]

        disable_progress_bars()
        digest, taken, counts = hashlib.sha256(), [], []
        start = time.perf_counter()
        drawing = getattr(samplers, sampler)(self.tables[name], size, True, ["label"], torch.Generator(), 0, **options)
        for epoch in range(2):
            drawing.set_epoch(epoch)
            counts.append(0)
            for batch in drawing:
                counts[-1] += 1
                digest.update(str(batch).encode())
            taken.append(time.perf_counter() - start)
            start = time.perf_counter()
        return {"seconds": taken[0], "later": taken[1], "batches": counts[0], "digest": digest.hexdigest()}

    def look_up(self, name: str, path: str, letters: int, cache: str) -> None:
        """Let the SentenceTransformer read only the first ``letters`` letters of queries and documents from now on.

        It finds them among the texts kept under ``name``, and their embeddings in the .npy file. A single text is
        really encoded: who tries out with one whether a cache is its own should pay for it.

        Args:
            cache: the ``cache_folder`` for mining.
        """
        import numpy as np

        model, rows = self.models["SentenceTransformer"], np.load(path, mmap_mode="r")
        places = {text: place for place, text in enumerate(self.texts[name])}

        def encode(texts: list[str], *rest: Any, **options: Any) -> Any:
            heads = [text[:letters] for text in texts]
            return model.encode(heads) if len(heads) == 1 else rows[[places[head] for head in heads]]

        model.encode_query = model.encode_document = encode
        self.cache = cache

    def mine(self, name: str, options: dict[str, Any], save: str | None = None) -> dict[str, Any]:
        """Mine negatives for a kept data set; ``save`` writes [pair, negative, score of the negative] of all rows.

        Pairs and negatives are numbers of the first row with that question and answer, or with that answer.
        """
        from sentence_transformers import util

        table, model = self.tables[name], self.models["SentenceTransformer"]
        start = time.perf_counter()
        found = util.mine_hard_negatives(table, model, cache_folder=self.cache, **options)
        seconds = time.perf_counter() - start
        if save is not None:
            given = {column: list(table[column]) for column in ("question", "answer")}
            answers, pairs = _first_places(given["answer"]), _first_places(zip(*given.values(), strict=True))
            mined = [list(found[column]) for column in ("question", "answer", "negative", "scores")]
            _save(
                save, [[pairs[one, right], answers[no], both[1]] for one, right, no, both in zip(*mined, strict=True)]
            )
        return {"seconds": seconds, "rows": len(found), "bytes": found.data.nbytes}

    def begin_training(self, loss: str, drops: bool, seed: int = 0) -> dict[str, int]:
        """Make a loss for the SentenceTransformer, and the optimizer that transformers' Trainer makes by default.

        Args:
            loss: its class.
            drops: with dropout, as the model has it; else without any.
        """
        import torch

        from sentence_transformers import losses

        model = self.models["SentenceTransformer"].train()
        if not drops:
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        torch.manual_seed(seed)
        self.loss = getattr(losses, loss)(model)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
        return {"parameters": sum(parameter.numel() for parameter in model.parameters())}

    def train(self, name: str, batch: int, first: int, steps: int) -> dict[str, Any]:
        """Steps of training on kept [text, text, score], from text to weights; the losses are returned.

        Args:
            batch: rows of a step.
            first: number of the first batch.
        """
        rows, found = self.texts[name], []
        start = time.perf_counter()
        for number in range(first, first + steps):
            found.append(self._step(rows[number * batch : (number + 1) * batch]))
        return {"seconds": time.perf_counter() - start, "losses": found}

    def _step(self, rows: list[Any]) -> float:
        import torch

        model = self.models["SentenceTransformer"]
        one, other, scores = zip(*rows, strict=True)
        value = self.loss([model.preprocess(list(one)), model.preprocess(list(other))], torch.tensor(scores))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(value)

    def peak(self) -> dict[str, int]:
        """The highest resident set since the process began."""
        return {"peak": _peak()}

    def latency(self, name: str) -> dict[str, list[float]]:
        """Encode the kept texts one call each."""
        found = []
        for text in self.texts[name]:
            start = time.perf_counter()
            self.models["SentenceTransformer"].encode(text)
            found.append(time.perf_counter() - start)
        return {"seconds": found}

    def memory(self, name: str, request: str = "encode", first: int = 256) -> dict[str, Any]:
        """Do a request with the kept texts and watch the resident set.

        Returns: of the request, and ``loaded`` (resident before), ``warm`` (resident after a call with ``first`` texts,
        which makes the buffers of the matrix library and pages the weights in), ``peak`` (highest during the work;
        where the system cannot forget the earlier peak, the higher of both and ``exact`` is False).
        """
        self.texts["first"] = self.texts[name][:first]
        loaded = self.watch(request, {"name": "first"})["before"]
        found = self.watch(request, {"name": name})
        return {**found, "loaded": loaded, "warm": found["before"]}

    def watch(self, request: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do a request and watch the resident set: also returns ``before``, ``peak`` and ``exact``, as ``memory``."""
        work: Callable[..., dict[str, Any]] = getattr(self, request)
        before = _resident()
        exact = _forget_peak()
        done = work(**arguments)
        return {**done, "before": before, "peak": _peak(), "exact": exact}

    def product(self, streams: int, threads: int, seconds: float) -> dict[str, float]:
        """Rate of float32 (1024, 384) x (384, 1536) in ``streams`` threads, each with ``threads`` intra-op threads."""
        import torch

        torch.set_num_threads(threads)
        done = [0] * streams
        ready = threading.Barrier(streams + 1)

        def multiply(stream: int) -> None:
            left, right, out = torch.rand(1024, 384), torch.rand(384, 1536), torch.empty(1024, 1536)
            torch.mm(left, right, out=out)  # the first product sets up threads and buffers
            ready.wait()
            while time.perf_counter() < stop:
                torch.mm(left, right, out=out)
                done[stream] += 1

        stop = time.perf_counter() + 3600.0
        workers = [threading.Thread(target=multiply, args=(stream,)) for stream in range(streams)]
        for worker in workers:
            worker.start()
        start = time.perf_counter()
        stop = start + seconds
        ready.wait()
        for worker in workers:
            worker.join()
        return {"gflops": sum(done) * 2 * 1024 * 384 * 1536 / (time.perf_counter() - start) / 1e9}


def _save(path: str | None, rows: Any) -> None:
    """Write as .npy, if a path was given."""
    if path is not None:
        import numpy as np

        np.save(path, rows)


def _first_places(items: Iterable[Any]) -> dict[Any, int]:
    """Item -> the place where it occurs first."""
    found: dict[Any, int] = {}
    for place, item in enumerate(items):
        found.setdefault(item, place)
    return found


def _status(field: str) -> int | None:
    """A size from /proc/self/status in bytes, None where there is none (not Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _peak() -> int:
    """Highest resident set so far. VmHWM rather than ru_maxrss, which also counts the parent before exec."""
    found = _status("VmHWM")
    if found is not None:
        return found
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident() -> int:
    found = _status("VmRSS")
    return _peak() if found is None else found


def _forget_peak() -> bool:
    """Set the highest resident set to the present one; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def serve(requests: TextIO, replies: TextIO, worker: Worker) -> None:
    """Answer ``{"do": method, ...arguments}`` with ``{"ok": reply}`` or ``{"error": text}`` until the requests end."""
    for line in requests:
        request = json.loads(line)
        method: Callable[..., Any] = getattr(worker, request.pop("do"))
        try:
            reply = {"ok": method(**request)}
        except Exception as error:  # noqa: BLE001  whatever went wrong, the driver must hear of it
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    serve(sys.stdin, channel, Worker())
