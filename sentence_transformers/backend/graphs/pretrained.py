"""A model folder whose network another runtime computes: its graph file, found or exported, and what is saved of it.

The counterpart of ``backend.pretrained.Pretrained``: it answers the same questions.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend.graphs import files
from sentence_transformers.backend.graphs.builder import store
from sentence_transformers.backend.graphs.facts import LOGITS, STATES, TYPES, Facts
from sentence_transformers.backend.graphs.files import FORMATS, FOUND_HERE, Format
from sentence_transformers.backend.graphs.network import GraphNetwork
from sentence_transformers.backend.graphs.session import SETTINGS, Session, open_session
from sentence_transformers.backend.graphs.static import openvino_model, save_openvino
from sentence_transformers.backend.native.families import WITH_TYPES, Unsupported, read_spec
from sentence_transformers.backend.native.heads import FEATURES
from sentence_transformers.backend.transformers import load_config
from sentence_transformers.errors import ModelFileError, need
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.adapters import Base
from sentence_transformers.hub.json_files import read_json
from sentence_transformers.ops.layout import packed_tokens

logger = logging.getLogger(__name__)

WITHOUT_EFFECT = ("attn_implementation", "low_cpu_mem_usage", "use_safetensors")
FLOATS = (None, "auto", "float32", torch.float32)


class PretrainedGraph:
    """The network of a model folder as a graph.

    Args: as of ``Pretrained``, and ``backend``: "onnx" or "openvino". settings: where the graph is (``file_name``,
        ``subfolder``, ``export``), and how it is run (see ``session``).

    Raises:
        ImportError: the runtime is not installed.
        ModelFileError: a file is missing or damaged.
        FileNotFoundError: ``export=False``, and there is no graph.
        ValueError: a setting that is of no use here.
    """

    is_native = False
    wants_all_layers = False
    quantization = None

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        overrides: dict[str, Any],
        trust_remote_code: bool,
        task: str = FEATURES,
        base: Base | None = None,
        backend: str = "onnx",
    ) -> None:
        self.folder, self.overrides, self.task, self.backend = folder, overrides, task, backend
        self.settings, self.trust_remote_code = settings, trust_remote_code
        self.base = base or Base(folder, os.path.abspath(folder))
        if self.base.adapter is not None:
            raise ValueError(f"backend={backend!r} takes no adapters: merge the one in {self.base.adapter} first.")
        self._form = FORMATS[backend]
        need(self._form.runtime, extra=backend, what=f"backend={backend!r}")  # before anything is exported
        self._how = self._checked(settings)
        self.config: dict[str, Any] = {**read_json(folder / "config.json"), **overrides}
        asked = files.Asked.of(self._form, settings)
        name = files.choose(files.files_of(folder, self._form), self._form, asked, str(folder))
        self._path = None if name is None else folder / name
        self._forget()
        if self._path is not None:
            self.network()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._network: GraphNetwork | None = None
        self._process = 0
        self._made_in: TemporaryDirectory[str] | None = None
        self._model: GraphModel | None = None

    def _checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of the runtime."""
        known = SETTINGS[self.backend]
        dtype = settings.get("dtype", settings.get("torch_dtype"))
        others = [key for key, value in settings.items() if value is not None and key not in (*known, *FOUND_HERE)]
        unknown = sorted({*others} - {*WITHOUT_EFFECT, "dtype", "torch_dtype"})
        if unknown or dtype not in FLOATS:
            told = f"model_kwargs {unknown}" if unknown else f"dtype={dtype!r}"
            raise ValueError(
                f"{told} cannot be had with backend={self.backend!r}, which takes {', '.join((*known, *FOUND_HERE))}. "
                "Graphs of fewer bits are made by export_optimized_onnx_model, export_dynamic_quantized_onnx_model and "
                "export_static_quantized_openvino_model."
            )
        return {key: settings[key] for key in known if settings.get(key) is not None}

    # --- the graph ---------------------------------------------------------------------------------------------------

    @property
    def is_pending(self) -> bool:
        """Whether the graph has still to be exported."""
        return self._path is None

    def complete(self, export: Callable[[Path], Any]) -> None:
        """Export the graph that is not there, into a temporary folder that is there as long as this is.

        Args:
            export: writes an ONNX file.
        """
        with self._lock:
            if self._path is not None:
                return
            made_in = TemporaryDirectory(prefix="sentence-transformers-", ignore_cleanup_errors=True)
            path = Path(made_in.name) / FORMATS["onnx"].default
            export(path)
            if self.backend == "openvino":
                path = _converted(path, Path(made_in.name) / self._form.default)
            self._path, self._made_in = path, made_in
            self.network()

    def network(self) -> GraphNetwork:
        """What computes the hidden states."""
        with self._lock:
            if self._network is None or self._process != os.getpid():  # the threads of a runtime don't survive a fork
                self._process = os.getpid()
                assert self._path is not None, "the graph was not exported yet"
                session = open_session(self._path, self.backend, self._how)
                padding_id = self.config.get("pad_token_id") or 0
                self._network = GraphNetwork(session, self.task, padding_id, self.position_limit)
            return self._network

    @property
    def session(self) -> Session:
        """The open graph."""
        return self.network().session

    @property
    def facts(self) -> Facts | None:
        """What the graph says of itself."""
        return None if self.is_pending else self.session.facts

    # --- as ``Pretrained`` -------------------------------------------------------------------------------------------

    @property
    def unsaved_overrides(self) -> dict[str, Any]:
        """Nothing: the config is saved as it is."""
        return {}

    @property
    def position_limit(self) -> int | None:
        """The most tokens of one sequence, where the network or its config sets a limit."""
        named = self.config.get("max_position_embeddings")
        try:
            own = read_spec(self.config, self.task).position_limit
        except Unsupported:
            own = None
        return min((limit for limit in (named, own) if limit is not None and limit > 0), default=None)

    @property
    def takes_types(self) -> bool:
        """Whether the graph takes segment numbers, or will take them once it is exported."""
        return self.config.get("model_type") in WITH_TYPES if self.is_pending else TYPES in self.session.inputs

    @property
    def built(self) -> None:
        """There is no transformers model."""

    def model(self) -> nn.Module:
        """A module without parameters that runs the graph, for whoever wants one."""
        with self._lock:
            if self._model is None:
                self._model = GraphModel(self)
            return self._model

    def replace(self, model: nn.Module) -> None:
        """A graph stays what it is. Raises: ValueError."""
        raise ValueError(f"backend={self.backend!r} computes a graph, not {type(model).__name__}: use backend='torch'.")

    def live(self) -> None:
        """A graph cannot be trained."""

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Nothing to do: it was not rounded here."""
        yield

    @property
    def device(self) -> torch.device:
        """Where inputs and outputs are."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type of the outputs."""
        return torch.float32

    def apply_(self, change: Callable[[Tensor], Tensor]) -> None:
        """Nothing to move or cast."""

    def save(self, target: Path) -> None:
        """Write ``config.json``, the graph, and the weights for torch where the folder has them."""
        assert self._path is not None, "the graph was not exported yet"
        place = target / self._form.backend / self._form.default
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(self._path, place, self._form)
        (target / "config.json").write_text(json.dumps(self.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        try:
            weights = checkpoint.find_weights(self.folder)
        except ModelFileError:  # a folder with a graph alone
            return
        checkpoint.write_weights(checkpoint.read_weights(weights), target)

    # --- copies ------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens the graph anew; of one that was exported for the moment it takes the bytes along."""
        state = {key: value for key, value in vars(self).items() if key not in ("_lock", "_network", "_model")}
        made_in = state.pop("_made_in")
        if made_in is not None:
            state["_files"] = {path.name: path.read_bytes() for path in Path(made_in.name).iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        contents = state.pop("_files", None)
        vars(self).update(state)
        self._forget()
        if contents is not None:
            assert self._path is not None
            self._made_in = TemporaryDirectory(prefix="sentence-transformers-", ignore_cleanup_errors=True)
            for name, content in contents.items():
                (Path(self._made_in.name) / name).write_bytes(content)
            self._path = Path(self._made_in.name) / self._path.name


class GraphModel(nn.Module):
    """Stands where a transformers model would: no parameters, a config, and a forward that runs the graph."""

    def __init__(self, graph: PretrainedGraph) -> None:
        super().__init__()
        self._graph = graph
        self.config = load_config(graph.folder, trust_remote_code=graph.trust_remote_code, **graph.overrides)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """ids and mask (B, T) -> ``last_hidden_state`` (B, T, D), zero at padding; or ``logits``."""
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        tokens, layout = packed_tokens(features, torch.device("cpu"))
        network = self._graph.network()
        if self._graph.task == FEATURES:
            return SimpleNamespace(**{STATES: layout.pad(network.run(tokens)[0])})
        return SimpleNamespace(**{LOGITS: network.logits(tokens)})


def _converted(onnx: Path, target: Path) -> Path:
    """The same graph for OpenVINO; the ONNX file is removed."""
    save_openvino(openvino_model(onnx), target)
    for path in onnx.parent.glob(f"{onnx.name}*"):
        path.unlink()
    return target


def _copy(graph: Path, target: Path, form: Format) -> None:
    """Copy a graph with its file of weights, which an ONNX graph calls by its name."""
    if target.exists() and target.samefile(graph):
        return
    companion = graph.with_name(form.companion(graph.name))
    if form.backend == "onnx" and companion.is_file():
        onnx = need("onnx", extra="onnx", what="Saving a model with backend='onnx'")
        store(onnx.load(str(graph)), target)
        return
    shutil.copyfile(graph, target)
    if companion.is_file():
        shutil.copyfile(companion, target.with_name(form.companion(target.name)))
