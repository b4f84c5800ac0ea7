"""A pretrained network on disk, and what computes it now: the native engine, or transformers' model once it is built.

The transformers model is built when somebody asks for it, or at once where the native engine does not know the
network. From then on the engine reads that model's parameters (see ``native.network.Adopted``).
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend import adapters
from sentence_transformers.backend.base import Network, as_dtype
from sentence_transformers.backend.native.families import WITH_TYPES, Unsupported
from sentence_transformers.backend.native.heads import FEATURES
from sentence_transformers.backend.native.int8 import Quantization
from sentence_transformers.backend.native.network import Adopted, NativeNetwork
from sentence_transformers.backend.native.training import LiveEncoder
from sentence_transformers.backend.transformers import TransformersNetwork, load_config, load_model
from sentence_transformers.errors import one_of
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.adapters import Base
from sentence_transformers.hub.json_files import read_json
from sentence_transformers.hub.layout import LAYOUTS
from sentence_transformers.hub.paths import stamp

logger = logging.getLogger(__name__)

NATIVE_SETTINGS = {"torch_dtype", "dtype", "attn_implementation", "low_cpu_mem_usage", "use_safetensors"}
_building = threading.RLock()


class Pretrained:
    """The network of a model folder.

    Args:
        folder: holds ``config.json`` and the weights.
        settings: ``dtype``, ``quantize`` ("int8"), ``cuda_graphs`` (replay single short texts on a GPU), and anything
            else ``AutoModel.from_pretrained`` takes.
        overrides: keys of ``config.json`` to replace.
        trust_remote_code: run modelling code that comes with the folder.
        task: what is read from the network, one of ``transformers.MODEL_CLASSES``.
        base: where others find the same folder, and what adapter is put on; None: nowhere else, and none.

    Raises:
        ModelFileError: a file is missing or damaged.
        ImportError: there is an adapter, and ``peft`` is not installed.
        ValueError: the native engine does not know the network, and so cannot quantise it.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        overrides: dict[str, Any],
        trust_remote_code: bool,
        task: str = FEATURES,
        base: Base | None = None,
    ) -> None:
        self.folder, self.settings, self.overrides = folder, settings, overrides
        self.base = base or Base(folder, os.path.abspath(folder))
        self.trust_remote_code, self.task = trust_remote_code, task
        self.quantize = one_of("model_kwargs['quantize']", settings.pop("quantize", None), (None, "int8"))
        cuda_graphs = bool(settings.pop("cuda_graphs", False))
        self._config: dict[str, Any] = {**read_json(folder / "config.json"), **overrides}
        self._native: NativeNetwork | None = None
        self._adopted: Adopted | None = None
        self._hosted: TransformersNetwork | None = None
        self._stamps = self._stamps_now()
        self._check_rounding()
        try:
            self._check_settings()
            self._native = NativeNetwork.load(folder, self._config, self._wanted_dtype(), task, bool(self.quantize))
            self._native.cuda_graphs = cuda_graphs
        except Unsupported as reason:
            if self.quantize:
                raise ValueError(
                    f"quantize={self.quantize!r} is for networks of the native engine; {folder} is not one: {reason}. "
                    "Leave out 'quantize'."
                ) from reason
            logger.info("%s runs through transformers' own model: %s.", folder, reason)
            self.model()

    def _check_settings(self) -> None:
        unknown = {key for key, value in self.settings.items() if key not in NATIVE_SETTINGS and value is not None}
        if self.settings.get("attn_implementation") not in (None, "eager", "sdpa"):
            unknown.add("attn_implementation")
        if unknown:
            raise Unsupported(f"model_kwargs {sorted(unknown)}")
        if self.base.adapter is not None:
            raise Unsupported(f"the adapter in {self.base.adapter}")

    def _check_rounding(self) -> None:
        asked = self.settings.get("dtype", self.settings.get("torch_dtype"))
        if self.quantize and asked not in (None, "auto") and as_dtype(asked) is not torch.float32:
            raise ValueError(
                f"quantize={self.quantize!r} computes in float32; got dtype={asked!r}. Leave out one of them."
            )

    def _wanted_dtype(self) -> torch.dtype | None:
        """The type asked for, else the one the config names, else None."""
        asked = self.settings.get("dtype", self.settings.get("torch_dtype"))
        if asked is None or asked == "auto":
            asked = self._config.get("dtype", self._config.get("torch_dtype"))
        return None if asked is None else as_dtype(asked)

    @property
    def config(self) -> dict[str, Any]:
        """``config.json`` as it is now."""
        live = self._live_config
        return self._config if live is None else dict(live.to_dict())

    @property
    def unsaved_overrides(self) -> dict[str, Any]:
        """What was changed about a config that is not saved, because only an adapter is."""
        if not adapters.configs(self.built):
            return {}
        plain = (str, int, float, bool, list, dict, type(None))
        return {key: value for key, value in self.overrides.items() if isinstance(value, plain)}

    @property
    def _live_config(self) -> Any:
        """The config object of the transformers model; None before it is built, and for a wrapper without one."""
        return None if self._hosted is None else getattr(self._hosted.model, "config", None)

    @property
    def position_limit(self) -> int | None:
        """The most tokens of one sequence, where the network or its config sets a limit."""
        live, key = self._live_config, "max_position_embeddings"
        named = self._config.get(key) if live is None else getattr(live, key, None)  # GPT-2 calls it n_positions
        own = None if self._native is None else self._native.position_limit
        return min((limit for limit in (named, own) if limit is not None and limit > 0), default=None)

    @property
    def wants_all_layers(self) -> bool:
        """Whether the config asks for the hidden states of every layer."""
        live = self._live_config
        return bool((self._config if live is None else vars(live)).get("output_hidden_states"))

    @property
    def built(self) -> nn.Module | None:
        """The transformers model, if it was built."""
        return None if self._hosted is None else self._hosted.model

    @property
    def is_native(self) -> bool:
        """Whether no transformers model was needed so far."""
        return self._native is not None

    @property
    def takes_types(self) -> bool | None:
        """Whether the network takes segment numbers; None where its tokenizer has to say."""
        return self.config.get("model_type") in WITH_TYPES if self.is_native else None

    def model(self) -> nn.Module:
        """The transformers model; built on first use, in the type and on the device of the network."""
        with _building:
            if self._hosted is None:
                model = self._build()
                self.replace(model)
                if self.base.adapter is not None and not adapters.configs(model):  # transformers puts on one beside
                    adapters.attach(model, self.base.adapter)
            assert self._hosted is not None
            return self._hosted.model

    def _build(self) -> nn.Module:
        settings = {key: value for key, value in self.settings.items() if key != "torch_dtype"}
        dtype = self._wanted_dtype() if self._native is None else self._native.dtype
        settings["dtype"] = "auto" if dtype is None else dtype
        if self.trust_remote_code:
            settings["trust_remote_code"] = True
        with self._folder_as_loaded() as folder:
            config = load_config(folder, trust_remote_code=self.trust_remote_code, **self.overrides)
            with torch.inference_mode(False):  # the first use may be an inference; parameters must be trainable later
                model: nn.Module = load_model(folder, config, self.task, **settings)
        model.name_or_path = str(self.folder)  # type: ignore[assignment]  # adapters are saved with it
        return model if self._native is None else model.to(self._native.device)

    @contextmanager
    def _folder_as_loaded(self) -> Iterator[Path]:
        """The folder of this model, or one made for the moment where the first is gone or holds another model now."""
        if self._native is None or self._native.stored is None or self._stamps == self._stamps_now():
            yield self.folder
            return
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            self.save(Path(folder))
            yield Path(folder)

    def _stamps_now(self) -> list[Any]:
        return [stamp(self.folder / name) for name in ("config.json", *LAYOUTS)]

    def replace(self, model: nn.Module) -> None:
        """Compute with this transformers model from now on."""
        if self.quantization is not None:
            logger.warning("The transformers model was asked for: from now on it computes, in float32, not in int8.")
        self._hosted = TransformersNetwork(model, self._config.get("pad_token_id") or 0, self.task)
        self._adopted = Adopted(model, self.task)
        self._native = None

    @property
    def quantization(self) -> Quantization | None:
        """What rounding did to the network; None where it computes with the weights as they are."""
        return None if self._native is None else self._native.quantization

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Within the ``with`` block a network in 8 bits computes in float32."""
        rounded = self._native
        if rounded is None or rounded.quantization is None:
            yield
            return
        self._native = NativeNetwork.load(self.folder, self._config, torch.float32, self.task)
        try:
            yield
        finally:
            self._native = rounded

    def network(self) -> Network:
        """What computes the hidden states now."""
        native = self._native
        if native is not None:  # asked once: another thread may build the model meanwhile
            return native
        assert self._adopted is not None and self._hosted is not None
        if is_compiled(self._hosted.model):
            return self._hosted
        return self._adopted.current() or self._hosted

    def live(self) -> LiveEncoder | None:
        """What trains the built model without padding; None where transformers' own forward has to.

        That is: on other devices than CPUs, for a network that is not in the table, for one that was changed, sharded
        or compiled, and where somebody wants the attention weights.
        """
        hosted = self._hosted
        if hosted is None or self._adopted is None or hosted.device.type != "cpu" or torch.compiler.is_compiling():
            return None
        config, model = self._live_config, hosted.model
        if getattr(config, "output_attentions", False):
            return None
        if getattr(config, "_attn_implementation", None) not in (None, "eager", "sdpa"):
            return None
        if getattr(model, "_is_fsdp_managed_module", False) or is_compiled(model):
            return None
        return self._adopted.live()

    def _weights(self) -> Network:
        network = self._native or self._hosted
        assert network is not None
        return network

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._weights().device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self._weights().dtype

    def apply_(self, change: Callable[[Tensor], Tensor]) -> None:
        """Move or cast the weights, as long as no transformers model holds them."""
        if self._native is not None:
            self._native.apply_(change)

    def save(self, target: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; or of a model with adapters, the active one alone."""
        if self._hosted is not None:
            adapters.warn_of_the_unsaved(self._hosted.model)
            self._hosted.model.save_pretrained(str(target))  # type: ignore[operator]
            adapters.name_base(target, str(self.folder), self.base.name, self.base.revision)
            return
        assert self._native is not None
        dtype, weights = self.dtype, self._native.stored
        if weights is None:
            weights = checkpoint.read_weights(checkpoint.find_weights(self.folder))
        changed = {key: t.to(dtype) if t.is_floating_point() else t for key, t in weights.items()}
        checkpoint.write_weights(changed, target)
        config = {key: value for key, value in self._config.items() if key != "torch_dtype"}
        config["dtype"] = str(dtype).removeprefix("torch.")
        (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def is_compiled(model: nn.Module) -> bool:
    """Whether somebody asked ``torch.compile`` for this model, by a wrapper or in place, or for a part of it."""
    return any(
        module._compiled_call_impl is not None or type(module).__name__ == "OptimizedModule"
        for module in model.modules()
    )
