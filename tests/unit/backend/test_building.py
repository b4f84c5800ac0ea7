"""``auto_model`` is built while other threads encode."""

from __future__ import annotations

import threading

import numpy as np
import texts

from sentence_transformers import SentenceTransformer

TEXTS = texts.TINY_TEXTS[:7]  # the last one is too long


def test_building_while_others_encode_disturbs_nobody(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    worst: list[float] = []
    stop = threading.Event()

    def encode() -> None:
        while not stop.is_set():
            worst.append(float(np.abs(model.encode(TEXTS) - before).max()))

    threads = [threading.Thread(target=encode) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        _ = model[0].auto_model
        _ = model.tokenizer
        for _ in range(5):
            model.encode(TEXTS)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert worst
    assert max(worst) < 5e-6
