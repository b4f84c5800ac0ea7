"""One side of a race of runtimes: a worker that writes graphs of a model and encodes through one of them.

Runs with the interpreter of its side, as ``worker`` does; imports nothing else of this repository. A further engine is
a function and a line in ``ENGINES``; a further form of the model is a function and a line in ``FORMS``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker import Worker, _resident, _save, serve  # the file next to this one: it takes their folder off the path

if TYPE_CHECKING:
    from typing import TypeAlias

    Encode: TypeAlias = Callable[[list[str]], Any]
    """Texts -> float32 unit rows (n, D)."""

BATCH = 32  # texts, where the settings have no "batch"
SHARED = "a model"  # what fastembed is told that ours is called


class Engines(Worker):
    """Each public method is a request; what it returns is the reply."""

    def __init__(self) -> None:
        super().__init__()
        self.encode_texts: Encode | None = None

    def versions(self, names: list[str]) -> dict[str, str]:
        """Those of installed packages; one that is not there is left out."""
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for name in names:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found

    def gpu(self) -> dict[str, str | None]:
        """The name of the first CUDA device; None where there is none."""
        import torch

        return {"name": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None}

    def write(self, form: str, source: str, folder: str, level: str, calibration: str) -> dict[str, Any]:
        """Write a model in one of the ``FORMS``.

        Args:
            source: folder of the model. folder: where to, new. level: instructions that 8 bits are for.
            calibration: folder with train.csv, texts in the column ``sentence``.
        """
        os.environ["HF_DATASETS_CACHE"] = str(Path(calibration) / "cache")  # before the package is imported
        start = time.perf_counter()
        FORMS[form](Path(source), Path(folder), level, calibration)
        return {"seconds": time.perf_counter() - start}

    def bring(self, engine: str, settings: dict[str, Any]) -> dict[str, int]:
        """Import what an engine needs, open nothing; return the resident set."""
        if engine in {"ctranslate2", "fastembed"}:
            __import__(engine)
            return self.resident()
        import sentence_transformers

        getattr(sentence_transformers, "GraphEncoder" if engine == "graph_encoder" else "SentenceTransformer")
        for name in _modules(engine, settings.get("backend", "torch")):
            __import__(name)
        return self.resident()

    def resident(self) -> dict[str, int]:
        """The resident set."""
        return {"resident": _resident()}

    def open(self, engine: str, folder: str, threads: int, settings: dict[str, Any]) -> dict[str, float]:
        """Open a model with one of the ``ENGINES``."""
        start = time.perf_counter()
        self.encode_texts = ENGINES[engine](Path(folder), threads, settings)
        return {"seconds": time.perf_counter() - start, "resident": _resident()}

    def embed(self, name: str, save: str | None = None) -> dict[str, Any]:
        """Encode the kept texts once; ``save`` writes the rows as .npy."""
        assert self.encode_texts is not None
        texts = self.texts[name]
        start = time.perf_counter()
        rows = self.encode_texts(texts)
        seconds = time.perf_counter() - start
        _save(save, rows)
        return {"seconds": seconds, "resident": _resident()}

    def tensors(self) -> dict[str, int]:
        """Bytes of all torch tensors that are alive, each storage once: the weights, where nothing has been encoded."""
        import gc

        import torch

        gc.collect()
        found: dict[Any, int] = {}
        for one in gc.get_objects():
            if issubclass(type(one), torch.Tensor):
                if one.layout is torch.strided and not one.is_meta:
                    found[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
                else:
                    found[id(one)] = one.numel() * one.element_size()
        return {"bytes": sum(found.values())}


def _modules(engine: str, backend: str) -> list[str]:
    """What the package imports when it opens a model with a back end."""
    from importlib.util import find_spec

    if backend == "torch":
        return ["torch", "tokenizers"]
    if find_spec("optimum") is not None:
        return ["torch", {"onnx": "optimum.onnxruntime", "openvino": "optimum.intel.openvino"}[backend]]
    runtime = {"onnx": "onnxruntime", "openvino": "openvino"}[backend]
    return [runtime, "tokenizers"] if engine == "graph_encoder" else ["torch", runtime, "tokenizers"]


def sentence_transformers(folder: Path, threads: int, settings: dict[str, Any]) -> Encode:
    """The package of this side.

    Args:
        settings: ``backend`` and ``model_kwargs``; ``graph``: a pattern that one file of the folder has; ``device``.
    """
    from sentence_transformers import SentenceTransformer

    device = settings.get("device", "cpu")
    batch = settings.get("batch", BATCH)
    backend = settings.get("backend", "torch")
    how = _how(folder, threads, backend, settings)
    model: Any = SentenceTransformer(str(folder), device=device, backend=backend, model_kwargs=how)
    return lambda texts: model.encode(texts, batch_size=batch, show_progress_bar=False)


def graph_encoder(folder: Path, threads: int, settings: dict[str, Any]) -> Encode:
    """Ours without torch. settings: as of ``sentence_transformers``."""
    from sentence_transformers import GraphEncoder  # type: ignore[attr-defined,unused-ignore]

    backend = settings["backend"]
    model: Any = GraphEncoder(str(folder), backend=backend, **_how(folder, threads, backend, settings))
    return lambda texts: model.encode(texts, batch_size=BATCH)


def _how(folder: Path, threads: int, backend: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The ``model_kwargs``."""
    found = dict(settings.get("model_kwargs", {}))
    if backend == "onnx":
        import onnxruntime

        found["session_options"] = onnxruntime.SessionOptions()
        found["session_options"].intra_op_num_threads = threads
        found["provider"] = "CPUExecutionProvider"
    elif backend == "openvino":
        found["ov_config"] = {"INFERENCE_NUM_THREADS": threads, **found.get("ov_config", {})}
    if "graph" in settings:
        [graph] = folder.glob(settings["graph"])
        found["file_name"] = str(graph.relative_to(folder))
    return found


def ctranslate2(folder: Path, threads: int, settings: dict[str, Any]) -> Encode:
    """Padding removed by itself; texts sorted by length, pooled and normalised here.

    Args:
        folder: of the converted model, with the tokenizer's file. settings: ``compute_type``.
    """
    import ctranslate2 as runtime  # type: ignore[import-not-found,unused-ignore]
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_limit(folder))
    encoder: Any = runtime.Encoder(
        str(folder), device="cpu", intra_threads=threads, inter_threads=1, compute_type=settings["compute_type"]
    )
    size = settings.get("batch", BATCH)

    def encode(texts: list[str]) -> Any:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        rows: Any = None
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            states = np.asarray(encoder.forward_batch([ids[place] for place in batch]).last_hidden_state)
            lengths = np.array([len(ids[place]) for place in batch])
            inside = (np.arange(states.shape[1]) < lengths[:, None]).astype(np.float32)
            means = np.einsum("btd,bt->bd", states, inside) / lengths[:, None].astype(np.float32)
            rows = np.empty((len(ids), means.shape[1]), np.float32) if rows is None else rows
            rows[batch] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return rows

    return encode


def fastembed(folder: Path, threads: int, settings: dict[str, Any]) -> Encode:
    """Its own sentence encoder over a file of ours.

    Args:
        settings: ``graph``: a pattern that one file of the folder has; ``sorted``: texts of like length side by side,
            which it does not see to itself.
    """
    import numpy as np
    from fastembed import TextEmbedding  # type: ignore[import-not-found,unused-ignore]
    from fastembed.common.model_description import (  # type: ignore[import-not-found,unused-ignore]
        ModelSource,
        PoolingType,
    )

    [graph] = folder.glob(settings["graph"])
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    TextEmbedding.add_custom_model(
        SHARED, PoolingType.MEAN, True, ModelSource(hf=SHARED), width, str(graph.relative_to(folder))
    )
    model: Any = TextEmbedding(SHARED, threads=threads, specific_model_path=str(folder))

    def encode(texts: list[str]) -> Any:
        if not settings.get("sorted"):
            return np.stack(list(model.embed(texts, batch_size=BATCH)))
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        found = np.stack(list(model.embed([texts[place] for place in order], batch_size=BATCH)))
        rows = np.empty_like(found)
        rows[order] = found
        return rows

    return encode


ENGINES: dict[str, Callable[[Path, int, dict[str, Any]], Encode]] = {
    "sentence_transformers": sentence_transformers,
    "graph_encoder": graph_encoder,
    "ctranslate2": ctranslate2,
    "fastembed": fastembed,
}


def _graph(backend: str) -> Callable[[Path, Path, str, str], None]:
    """Writes a whole folder with the graph that is exported when a model is opened."""

    def write(source: Path, folder: Path, level: str, calibration: str) -> None:
        _open(source, backend).save_pretrained(str(folder))

    return write


def _onnx_int8(source: Path, folder: Path, level: str, calibration: str) -> None:
    from sentence_transformers import export_dynamic_quantized_onnx_model

    shutil.copytree(source, folder)
    export_dynamic_quantized_onnx_model(_open(source, "onnx"), level, str(folder))


def _openvino_int8(source: Path, folder: Path, level: str, calibration: str) -> None:
    from sentence_transformers import export_static_quantized_openvino_model

    shutil.copytree(source, folder)
    export_static_quantized_openvino_model(
        _open(source, "openvino"),
        None,
        str(folder),
        dataset_name=calibration,
        dataset_config_name="default",
        dataset_split="train",
        column_name="sentence",
    )


def _open(source: Path, backend: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(source), device="cpu", backend=backend)  # type: ignore[arg-type,unused-ignore]


def _converted(quantization: str | None) -> Callable[[Path, Path, str, str], None]:
    """What the program ct2-transformers-converter does."""

    def write(source: Path, folder: Path, level: str, calibration: str) -> None:
        from ctranslate2.converters import TransformersConverter  # type: ignore[import-not-found,unused-ignore]

        TransformersConverter(str(source)).convert(str(folder), quantization=quantization)
        shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
        shutil.copyfile(source / "tokenizer_config.json", folder / "tokenizer_config.json")
        shutil.copyfile(source / "sentence_bert_config.json", folder / "sentence_bert_config.json")

    return write


def _with_limit(write: Callable[[Path, Path, str, str], None]) -> Callable[[Path, Path, str, str], None]:
    """The same, and the tokenizer's own limit is the model's, as fastembed reads only that."""

    def both(source: Path, folder: Path, level: str, calibration: str) -> None:
        write(source, folder, level, calibration)
        path = folder / "tokenizer_config.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        limits = {"max_length": _limit(source), "model_max_length": _limit(source)}
        path.write_text(json.dumps({**found, **limits}), encoding="utf-8")

    return both


def _limit(folder: Path) -> int:
    """Tokens of a text."""
    return int(json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"])


FORMS: dict[str, Callable[[Path, Path, str, str], None]] = {
    "onnx": _graph("onnx"),
    "onnx_int8": _onnx_int8,
    "openvino": _graph("openvino"),
    "openvino_int8": _openvino_int8,
    "ctranslate2": _converted(None),
    "ctranslate2_int8": _converted("int8"),
    "fastembed": _with_limit(_graph("onnx")),
    "fastembed_int8": _with_limit(_onnx_int8),
}


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    serve(sys.stdin, channel, Engines())
