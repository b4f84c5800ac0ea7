"""A graph file, open: numpy in, numpy out, from as many threads as there are. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sentence_transformers.backend.graphs.aside import aside
from sentence_transformers.backend.graphs.facts import EMBEDDING, IDS, KEY, LOGITS, MASK, STATES, TYPES, Facts
from sentence_transformers.errors import ModelFileError, need

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

POSITIONS = "position_ids"
INPUTS = (IDS, MASK, TYPES, POSITIONS)
OTHER_NAMES = {"token_embeddings": STATES}
"""What other exporters call an output, and what it is."""
OUTPUTS = (EMBEDDING, STATES, LOGITS)
SETTINGS = {
    "onnx": ("provider", "provider_options", "session_options"),
    "openvino": ("ov_config", "device"),
}
"""The keys of ``model_kwargs`` that say how a graph of a back end is run."""
REMOTE = "AzureExecutionProvider"  # listed first by the usual package, and computes nothing here


class Session(Protocol):
    """An open graph.

    inputs, outputs: names. facts: what it says of itself; None of a graph that is not ours.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    facts: Facts | None

    def run(self, feeds: Mapping[str, Array], output: str) -> Array:
        """One output, in float32. feeds: the ``inputs``, int64 (B, T)."""


def open_session(path: Path, backend: str, settings: Mapping[str, Any]) -> Session:
    """Open a graph file.

    Args:
        settings: those of ``SETTINGS[backend]``.

    Raises:
        ImportError: the runtime is not installed.
        ModelFileError: a damaged file, or one of a graph with other inputs or outputs.
        ValueError: a provider or device that is not there.
    """
    return OnnxSession(path, **settings) if backend == "onnx" else OpenVinoSession(path, **settings)


class OnnxSession:
    """A graph in onnxruntime.

    Args:
        provider: such as "CUDAExecutionProvider"; None: the first there is. provider_options: its settings.
        session_options: an ``onnxruntime.SessionOptions``; None: as many threads as torch, or as the process may use.
    """

    def __init__(
        self,
        path: Path,
        provider: str | None = None,
        provider_options: Mapping[str, Any] | None = None,
        session_options: Any = None,
    ) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would write an id into the home, and send usage
        runtime = need("onnxruntime", extra="onnx", what="backend='onnx'")
        there = [name for name in runtime.get_available_providers() if name != REMOTE]
        chosen = provider or there[0]
        if chosen not in runtime.get_available_providers():
            raise ValueError(
                f"model_kwargs['provider'] must be one of those of the installed onnxruntime, {there}; got {chosen!r}. "
                "onnxruntime-gpu, onnxruntime-openvino, ... bring others."
            )
        _warn_of_instructions(path)
        providers = [(chosen, dict(provider_options or {}))]
        if chosen != "CPUExecutionProvider":
            providers.append(("CPUExecutionProvider", {}))
        self.path = path
        try:
            self._session = runtime.InferenceSession(
                str(path), session_options or _options(runtime), providers=providers
            )
        except Exception as error:  # its classes of errors are not public
            raise ModelFileError(f"{path}: onnxruntime cannot open it: {error}") from error
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs, self._names = _known(path, self.inputs, [item.name for item in self._session.get_outputs()])
        self.facts = _facts(path, self._session.get_modelmeta().custom_metadata_map.get(KEY))

    def run(self, feeds: Mapping[str, Array], output: str) -> Array:
        [found] = self._session.run([self._names[output]], dict(feeds))
        return np.asarray(found, dtype=np.float32)


class OpenVinoSession:
    """A graph in OpenVINO.

    Args:
        ov_config: properties of OpenVINO, or the path of a JSON file with them. They win over ours: as many threads as
            torch, float32 throughout, and compiled graphs kept in the user's cache folder.
        device: such as "GPU".
    """

    def __init__(self, path: Path, ov_config: Mapping[str, Any] | str | None = None, device: str = "CPU") -> None:
        runtime = need("openvino", extra="openvino", what="backend='openvino'")
        self.path = path
        properties = _with_cache({**_properties(device), **_config(ov_config)})
        self._compiled, told = aside(_compiled, runtime, path, device, properties)
        self.inputs = tuple(item.get_any_name() for item in self._compiled.inputs)
        names = [_usual_name(item.get_names()) for item in self._compiled.outputs]
        self.outputs, self._names = _known(path, self.inputs, names)
        self.facts = _facts(path, told)
        self._idle: list[Any] = []  # infer requests that no thread is using now; appending and popping are atomic

    def run(self, feeds: Mapping[str, Array], output: str) -> Array:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.infer(dict(feeds))
        found = np.array(request.get_tensor(self._names[output]).data, dtype=np.float32)  # a copy: it is used again
        self._idle.append(request)
        return found


def _compiled(runtime: Any, path: Path, device: str, properties: Mapping[str, Any]) -> tuple[Any, str | None]:
    """A graph in OpenVINO, ready to run, and what it says of itself."""
    core = runtime.Core()
    if device.partition(".")[0] not in [name.partition(".")[0] for name in core.available_devices]:
        raise ValueError(
            f"model_kwargs['device'] must be one of those of OpenVINO, {core.available_devices}; got {device!r}."
        )
    try:
        model = core.read_model(str(path))
        told = str(model.get_rt_info([KEY]).astype(str)) if model.has_rt_info([KEY]) else None
        return core.compile_model(model, device, properties), told
    except RuntimeError as error:
        raise ModelFileError(f"{path}: OpenVINO cannot open it: {error}") from error


def threads() -> int:
    """As many threads as torch uses here, or without torch as this process may use."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if told.isdecimal() and int(told) > 0:
        return int(told)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.log_severity_level = 3  # errors; its warnings are about its own choices
    # its threads wait busily after a call, 25 ms of a core each time; one is enough for the next step of a call
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    return options


def _properties(device: str) -> dict[str, Any]:
    if device != "CPU":
        return {}
    return {"INFERENCE_NUM_THREADS": threads(), "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def _with_cache(properties: dict[str, Any]) -> dict[str, Any]:
    """With a folder for compiled graphs: one for each set of properties, as OpenVINO does not tell them apart."""
    if "CACHE_DIR" in properties:
        return properties
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    key = hashlib.sha256(repr(sorted(properties.items(), key=str)).encode()).hexdigest()[:16]
    folder = os.path.join(home, "sentence_transformers", "openvino", key)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:  # a read-only home: graphs are compiled anew each time
        return properties
    return {**properties, "CACHE_DIR": folder}


def _config(given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if not isinstance(given, (str, os.PathLike)):
        return dict(given or {})
    if not os.path.isfile(given):
        raise ValueError(f"model_kwargs['ov_config'] must be a dict or the path of a JSON file; there is no {given!r}.")
    with open(given, encoding="utf-8") as file:
        return dict(json.load(file))


def _usual_name(names: set[str]) -> str:
    """Of the names of one output, the one that is known."""
    return next((name for name in (*OUTPUTS, *OTHER_NAMES) if name in names), min(names, default=""))


def _known(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The outputs that are understood, and what the graph calls each."""
    strange = [name for name in inputs if name not in INPUTS]
    if strange or IDS not in inputs:
        raise ModelFileError(
            f"{path}: expected a graph with inputs among {', '.join(INPUTS)}, found {', '.join(inputs)}. Export the "
            "model without a cache of keys and values, or use backend='torch'."
        )
    names = {OTHER_NAMES.get(name, name): name for name in outputs}
    known = {name: names[name] for name in OUTPUTS if name in names}
    if not known:
        raise ModelFileError(
            f"{path}: expected an output among {', '.join(OUTPUTS)}, found {', '.join(outputs)}. Export it anew: "
            "model_kwargs={'export': True}."
        )
    return tuple(known), known


def _facts(path: Path, text: str | None) -> Facts | None:
    if not text:
        return None
    try:
        return Facts.from_json(text)
    except (ValueError, KeyError, TypeError):
        raise ModelFileError(f"{path}: what it says of itself under {KEY!r} is damaged. Export it anew.") from None


def _warn_of_instructions(path: Path) -> None:
    """A file made for instructions that are missing here is right, but slow."""
    wanted = next((name for name in ("avx512_vnni", "avx512", "avx2") if name in path.stem), None)
    if wanted is None or not os.path.exists("/proc/cpuinfo"):
        return
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    if flags and not any(flag == wanted or flag == f"{wanted}f" for flag in flags):
        logger.warning(
            "%s was made for %s, which this processor does not have: it is slow here, and sums may overflow. Choose "
            "another file of the model by model_kwargs={'file_name': ...}, or model_kwargs={'quantize': 'int8'} with "
            "backend='torch'.", path.name, wanted)  # fmt: skip
