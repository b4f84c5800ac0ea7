"""One side of a race of evaluators: a worker whose model does not encode, but looks embeddings up.

Runs with the interpreter of its side, as ``worker`` does; imports nothing else of this repository.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from worker import Worker, serve  # the file next to this one: it takes their folder off the path


class Evaluating(Worker):
    """Each public method is a request; what it returns is the reply."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluators: dict[str, Any] = {}
        self.encoding = 0.0  # seconds

    def look_up_rows(self, path: str) -> dict[str, list[int]]:
        """From now on a text is the number of a row in a .npy file; the time for that is counted in ``encoding``."""
        import numpy as np
        import torch

        rows = torch.from_numpy(np.load(path))

        def encode(texts: Any, *_: Any, **options: Any) -> Any:
            start = time.perf_counter()
            found: Any = rows[torch.tensor([int(text) for text in texts], dtype=torch.int64)]
            if not options.get("convert_to_tensor"):
                found = found.numpy() if options.get("convert_to_numpy", True) else list(found)
            self.encoding += time.perf_counter() - start
            return found

        model = self.models["SentenceTransformer"]
        model.encode = model.encode_query = model.encode_document = encode
        return {"shape": list(rows.shape)}

    def keep_evaluator(self, name: str, kind: str, path: str) -> dict[str, float]:
        """Make an evaluator of the class ``kind`` from arguments in a JSON file, and keep it under ``name``."""
        from sentence_transformers.sentence_transformer import evaluation

        arguments = json.loads(Path(path).read_text(encoding="utf-8"))
        if "relevant_docs" in arguments:
            arguments["relevant_docs"] = {query: set(ids) for query, ids in arguments["relevant_docs"].items()}
        start = time.perf_counter()
        self.evaluators[name] = getattr(evaluation, kind)(**arguments)
        return {"seconds": time.perf_counter() - start}

    def evaluate(self, name: str, save: str | None = None) -> dict[str, float]:
        """Measure the model: ``seconds`` without those of ``encoding``; ``save`` writes the metrics as JSON."""
        evaluator, model = self.evaluators[name], self.models["SentenceTransformer"]
        self.encoding = 0.0
        start, used = time.perf_counter(), time.process_time()
        metrics = evaluator(model)
        found = {"seconds": time.perf_counter() - start - self.encoding, "encoding": self.encoding}
        if save is not None:
            Path(save).write_text(json.dumps(metrics), encoding="utf-8")
        return {**found, "cores": time.process_time() - used}


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    serve(sys.stdin, channel, Evaluating())
