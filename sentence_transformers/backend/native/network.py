"""The native engine as a ``Network``: a spec, its weights, and where they came from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend.native import encoder, int8, logits, weights
from sentence_transformers.backend.native.cuda_graphs import LONGEST, Recordings
from sentence_transformers.backend.native.families import Spec, Unsupported, read_spec
from sentence_transformers.backend.native.heads import FEATURES
from sentence_transformers.backend.native.training import LiveEncoder
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import checkpoint
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.screen import Screen, is_worthwhile
from sentence_transformers.ops.tokens import TokenIds

WIDE = 8192  # rows of an output matrix above which a look in half precision pays
HARMLESS = ("transformers.utils.output_capturing", "transformers.modeling_utils")
"""Where hooks are from that collect what is not asked for here, or ask for gradients of the word embeddings."""
LIBRARIES = ("transformers.", "torch.")  # whose modules compute what the config says; anybody else's may not


class NativeNetwork:
    """Runs a network of the table of families (``families.py``). Safe to run from many threads at once."""

    threads_safe = True
    cuda_graphs = False
    """Whether single short texts on a GPU are recorded and replayed (see ``cuda_graphs``)."""
    stored: Mapping[str, Tensor] | None = None
    """The tensors of the checkpoint, mapped from disk: there as long as this is, whatever becomes of the folder."""

    def __init__(self, spec: Spec, parts: weights.Weights, quantization: int8.Quantization | None = None) -> None:
        self.spec, self.weights, self.quantization = spec, parts, quantization
        self._screened: tuple[Tensor, Screen] | None = None
        self._recordings: Recordings | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            **vars(self),
            "stored": None,
            "_screened": None,
            "_recordings": None,
        }  # a copy reads the folder again, should it ever be saved

    @classmethod
    def load(
        cls,
        folder: Path,
        config: Mapping[str, Any],
        dtype: torch.dtype | None,
        task: str = FEATURES,
        quantize: bool = False,
    ) -> NativeNetwork:
        """Read the weights of a model folder.

        Args:
            task: "feature-extraction", or one with a head (see ``heads.HEADS``).
            dtype: the type to compute in; None takes the type named in the config, else that of the weights.
            quantize: round the layers to 8 bits (see ``int8``).

        Raises:
            Unsupported: the network is not in the table, or the folder has no head for the task.
            ModelFileError: a weights file is absent or damaged, or a tensor is missing or of another shape.
        """
        spec = read_spec(config, task)
        path = checkpoint.find_weights(folder)
        state = checkpoint.read_weights(path)
        if quantize:
            before = weights.from_state(spec, state, path)
            after = int8.quantize(spec, before)
            return cls(spec, after, int8.report(before, after))  # holds no part of the file: that memory is given back
        parts = weights.from_state(spec, state, path, by_columns=dtype in (None, torch.float32))
        wanted = dtype or parts.words.dtype
        network = cls(spec, weights.convert(parts, lambda tensor: tensor.to(wanted)))
        network.stored = state
        return network

    @property
    def device(self) -> torch.device:
        return self.weights.words.device

    @property
    def dtype(self) -> torch.dtype:
        return self.weights.words.dtype

    @property
    def position_limit(self) -> int | None:
        return self.spec.position_limit

    def run(self, tokens: TokenIds, all_layers: bool = False) -> Sequence[Tensor]:
        # it computes in the type of its weights; autocast would mix types in the steps that work in place
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            tokens = tokens.to(self.device)
            if self.cuda_graphs and not all_layers and self._may_be_recorded(tokens):
                return [self._recorded().run(tokens.ids)]
            return encoder.encode(self.spec, self.weights, tokens, all_layers)

    def _may_be_recorded(self, tokens: TokenIds) -> bool:
        """Whether nothing of the forward depends on more than the ids: it looks at no value, and copies no table."""
        plain = tokens.type_ids is None and tokens.visible is None and self.spec.padding_id is None
        single = len(tokens.lengths) == 1 and 0 < tokens.lengths[0] <= LONGEST
        return self.device.type == "cuda" and plain and single

    def _recorded(self) -> Recordings:
        if self._recordings is None:
            self._recordings = Recordings(
                lambda ids: encoder.encode(self.spec, self.weights, TokenIds(ids, (len(ids),)))[-1]
            )
        return self._recordings

    def logits(self, tokens: TokenIds) -> Tensor | Projected:
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            return logits.logits(self.spec, self.weights, tokens.to(self.device), self._screen())

    def _screen(self) -> Screen | None:
        """Of a wide output matrix that nobody trains, where this processor gains by it; made on first use."""
        head = self.weights.head
        if head is None or self.stored is None or head.out.weight.shape[0] < WIDE or not is_worthwhile():
            return None
        weight = head.out.weight
        if weight.device.type != "cpu" or weight.dtype is not torch.float32:
            return None
        made = self._screened
        if made is None or made[0] is not weight:  # two threads may both make it
            made = self._screened = (weight, Screen.of(weight))
        return made[1]

    def apply_(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.quantization is None:
            self.weights, self._recordings = weights.convert(self.weights, change), None
            return
        changed = change(torch.empty(0))
        if changed.device.type != "cpu" or changed.dtype is not torch.float32:
            raise ValueError(
                f"A network in int8 computes in float32 on the CPU, not in {str(changed.dtype).removeprefix('torch.')} "
                f"on {changed.device}. Load the model without 'quantize' there."
            )


class Adopted:
    """The native engine on the parameters of a live transformers model, for as long as the two agree.

    Its parameters are views of the engine's tensors, so training steps are seen. Moves, casts, a resized vocabulary
    are taken over on the next run; a model that was changed in kind (adapters, hooks, modules of another class,
    patched or removed layers) has no native engine, and ``current`` says so.
    """

    def __init__(self, model: nn.Module, task: str = FEATURES) -> None:
        self.model, self.task = model, task
        self._made_of = {name: type(module) for name, module in model.named_modules()}
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._seen: tuple[Any, ...] | None = None
        self._network: NativeNetwork | None = None
        self._seen_live: tuple[Any, ...] | None = None
        self._live: LiveEncoder | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy has parameters of its own, so its engine is made anew; locks cannot be copied."""
        return {"model": self.model, "task": self.task, "_made_of": self._made_of}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def current(self) -> NativeNetwork | None:
        """The engine for the model as it is now, or None if the model is no longer one of the table."""
        with self._lock:
            if self._seen != fingerprint(self.model):
                self._network = _adopt(self.model, self.task) if self._is_as_made() else None
                self._seen = fingerprint(self.model)
            return self._network

    def live(self) -> LiveEncoder | None:
        """The modules of the model in the order of the table of families, to be trained; None as for ``current``."""
        with self._lock:
            seen = structure(self.model)
            if self._seen_live != seen:
                self._live = _in_order(self.model, self.task) if self._is_as_made() else None
                self._seen_live = seen
            return self._live

    def _is_as_made(self) -> bool:
        """Whether every module is one of the model as it was made, and of the libraries."""
        return all(
            type(module) is self._made_of.get(name) and type(module).__module__.startswith(LIBRARIES)
            for name, module in self.model.named_modules()
        )


def fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """Changes when a parameter is replaced, moved or cast, or a module added, removed, replaced, hooked or patched."""
    parameters = tuple((name, p.data_ptr(), p.dtype, p.shape) for name, p in model.named_parameters())
    modules = list(model.named_modules())
    return parameters, _touched(modules), tuple((name, type(module)) for name, module in modules)


def structure(model: nn.Module) -> tuple[Any, ...]:
    """Changes with the modules of a model, the shapes of its parameters, and when a module is hooked or patched."""
    parameters = tuple((name, p.shape) for name, p in model.named_parameters())
    modules = list(model.named_modules())
    backward = tuple(name for name, module in modules if module._backward_hooks or module._backward_pre_hooks)
    return parameters, _touched(modules), backward, tuple(map(id, (module for _, module in modules)))


def _touched(modules: Iterable[tuple[str, nn.Module]]) -> tuple[str, ...]:
    return tuple(name for name, module in modules if _is_hooked(module) or "forward" in vars(module))


def _is_hooked(module: nn.Module) -> bool:
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(getattr(hook, "__module__", None) not in HARMLESS for hook in hooks)


def _in_order(model: nn.Module, task: str) -> LiveEncoder | None:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    _, touched, backward, _ = structure(model)
    if touched or backward or not all(p.is_floating_point() for p in parameters.values()):
        return None
    try:
        spec = read_spec(model.config.to_dict(), task)  # type: ignore[operator, union-attr]
        unused = weights.unused(spec, parameters, Path(type(model).__name__))
    except (Unsupported, ModelFileError):
        return None
    if any(map(weights.matters, unused)):
        return None
    return LiveEncoder(spec, model, weights.prefix_of(spec.names, parameters))


def _adopt(model: nn.Module, task: str) -> NativeNetwork | None:
    parameters = dict(model.named_parameters(remove_duplicate=False))  # whichever name of a shared one is asked for
    kinds = (p.is_floating_point() for name, p in parameters.items() if weights.matters(name))
    if fingerprint(model)[1] or not all(kinds):
        return None
    try:
        spec = read_spec(model.config.to_dict(), task)  # type: ignore[operator, union-attr]
        with torch.inference_mode(False):  # the parameters become views of these tensors, and may be trained later
            parts, unused = weights.adopt(spec, parameters, Path(type(model).__name__))
    except (Unsupported, ModelFileError):
        return None
    return None if any(map(weights.matters, unused)) else NativeNetwork(spec, parts)
