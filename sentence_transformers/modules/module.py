"""The public bases of all parts of a model: features dict in, features dict out, a config file, maybe weights.

A third party subclasses ``Module`` (or ``InputModule`` for the first part) and defines ``forward`` and ``save``.
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers._types import Features, HubArguments
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import checkpoint, source
from sentence_transformers.hub.json_files import read_json


class Module(ABC, nn.Module):
    """One part of a model.

    Class attributes:
        config_file_name: the JSON file of this part within its own folder.
        config_keys: attribute names that make up the config, in the order they are written.
        config_key_renames: old config key -> present key, applied on load.
        save_in_root: saved beside ``modules.json`` rather than in a folder of its own (first module only).
        forward_kwargs: names of extra keyword arguments of ``forward``.
        accepts_packed: ``forward`` takes ``features["token_embeddings"]`` as ``ops.tokens.Packed`` too, keeps no
            state between calls, and may therefore run in several threads at once. A part that does not say so gets
            the padded tensors of the public features dict, one call at a time.
    """

    config_file_name: ClassVar[str] = "config.json"
    config_keys: ClassVar[Sequence[str]] = ()
    config_key_renames: ClassVar[dict[str, str]] = {}
    save_in_root: ClassVar[bool] = False
    forward_kwargs: ClassVar[set[str]] = set()
    accepts_packed: ClassVar[bool] = False

    @property
    def threads_safe(self) -> bool:
        """Whether ``forward`` may run in several threads at once."""
        return self.accepts_packed

    @abstractmethod
    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Read from ``features``, write to it, and return it."""

    @abstractmethod
    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write config and weights into the existing folder ``output_path``."""

    def get_config_dict(self) -> dict[str, Any]:
        """The values of ``config_keys``; what ``save_config`` writes and the constructor takes."""
        return {key: getattr(self, key) for key in self.config_keys}

    def on_model_ready(self, model: Any) -> None:
        """Called once with the finished model; the default does nothing."""

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """Make the part from its folder: constructor arguments are the keys of its config file.

        Args:
            kwargs: how the model is fetched (``token``, ``cache_folder``, ``revision``, ``local_files_only``), and
                settings of the whole model (``trust_remote_code``, ``model_kwargs``, ``backend``, ...), which a part
                may ignore.
        """
        config = cls.load_config(model_name_or_path, subfolder, **hub_arguments(kwargs))
        return cls.from_config(config, f"{model_name_or_path}/{subfolder}")

    @classmethod
    def from_config(cls, config: dict[str, Any], folder: str) -> Self:
        """Make the part from the keys of a config file.

        Raises:
            ModelFileError: a key is missing or unknown; names the folder.
        """
        try:
            inspect.signature(cls).bind(**config)
        except TypeError as error:
            raise ModelFileError(
                f"{Path(folder) / cls.config_file_name} does not fit {cls.__name__}: {error}; it has the keys "
                f"{sorted(config)}. Save or download the model again."
            ) from error
        return cls(**config)

    @classmethod
    def load_config(
        cls, model_name_or_path: str, subfolder: str = "", config_filename: str | None = None, **hub: Any
    ) -> dict[str, Any]:
        """Read the config file of this part; ``{}`` when the folder has none. Old key names become the present ones.

        Raises:
            ModelFileError: the file is not a JSON object.
        """
        name = config_filename or cls.config_file_name
        path = cls.load_file_path(model_name_or_path, name, subfolder=subfolder, **hub)
        if path is None:
            return {}
        config = read_json(path)
        return {cls.config_key_renames.get(key, key): value for key, value in config.items()}

    @staticmethod
    def load_file_path(model_name_or_path: str, filename: str, subfolder: str = "", **hub: Any) -> str | None:
        """The local path of one file of a model, fetched if need be; None when the model has no such file."""
        return source.load_file_path(model_name_or_path, filename, subfolder=subfolder, **hub)

    @staticmethod
    def load_dir_path(model_name_or_path: str, subfolder: str = "", **hub: Any) -> str | None:
        """The local path of one folder of a model, fetched if need be; None when the model has no such folder."""
        return source.load_dir_path(model_name_or_path, subfolder=subfolder, **hub)

    @classmethod
    def load_torch_weights(
        cls, model_name_or_path: str, subfolder: str = "", model: nn.Module | None = None, **hub: Any
    ) -> Any:
        """Read ``model.safetensors``, else ``pytorch_model.bin``.

        Returns: the state dict, or ``model`` with the weights loaded strictly.
        Raises:
            ModelFileError: no weights, a damaged file, or a missing, unexpected or wrongly shaped tensor.
        """
        for name in checkpoint.WEIGHT_FILES:
            path = cls.load_file_path(model_name_or_path, name, subfolder=subfolder, **hub)
            if path is not None:
                weights = checkpoint.read_weights(path)
                return weights if model is None else checkpoint.load_strictly(model, weights, path)
        raise checkpoint.no_weights(Path(model_name_or_path) / subfolder)

    def save_config(self, output_path: str, filename: str | None = None) -> None:
        """Write ``get_config_dict()`` as JSON (indent 4) into the folder ``output_path``."""
        target = Path(output_path) / (filename or self.config_file_name)
        target.write_text(json.dumps(self.get_config_dict(), indent=4) + "\n", encoding="utf-8")

    def save_torch_weights(self, output_path: str, safe_serialization: bool = True) -> None:
        """Write the state dict as ``model.safetensors``, or as ``pytorch_model.bin`` when asked not to be safe."""
        checkpoint.write_weights(self.state_dict(), Path(output_path), safe_serialization)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_config_dict()})"


def hub_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the keyword arguments of ``load``, those that say where and how a model is fetched."""
    return {name: settings[name] for name in HubArguments.__annotations__ if name in settings}


class Prepared(Protocol):
    """Inputs of one call, ready to be cut into batches of any composition."""

    sizes: np.ndarray[Any, Any]
    """(n,) int: the cost of every input; tokens, where the first module knows them."""
    cut: Sequence[int]
    """The numbers of the inputs that are longer than ``limit``."""
    limit: int | None
    """The most tokens of one input that the model reads."""

    def batch(self, rows: np.ndarray[Any, Any]) -> Features:
        """The features of the inputs with the given numbers, in that order, for the modules' ``forward``."""


class InputModule(Module):
    """The first part of a model: turns inputs into features.

    A subclass defines ``preprocess`` (or, in the old way, only ``tokenize``).
    """

    save_in_root: ClassVar[bool] = True
    tokenizer: Any

    @property
    def modalities(self) -> list[str]:
        """What kinds of input are understood."""
        return ["text"]

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """One batch of inputs -> padded features (``input_ids`` (B, T), ``attention_mask`` (B, T), ...)."""
        if type(self).tokenize is InputModule.tokenize:
            raise NotImplementedError(f"{type(self).__name__} must define preprocess(inputs, prompt=None, **kwargs).")
        return self.tokenize(self._prepend_prompt(inputs, prompt), **kwargs)

    def tokenize(self, texts: Sequence[Any], **kwargs: Any) -> Features:
        """The old name of ``preprocess``."""
        return self.preprocess(texts, **kwargs)

    def prepare(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Prepared:
        """All inputs of a call at once. The default keeps them as they are and preprocesses batch by batch."""
        return EachBatch(self, inputs, prompt, kwargs)

    @staticmethod
    def _prepend_prompt(inputs: Sequence[Any], prompt: str | None) -> list[Any]:
        """Put the prompt before every text, or before the first text of every pair."""
        if not prompt:
            return list(inputs)
        return [
            prompt + item
            if isinstance(item, str)
            else type(item)([prompt + item[0], *item[1:]])
            if isinstance(item, (list, tuple))
            else item
            for item in inputs
        ]

    def save_tokenizer(self, output_path: str, **kwargs: Any) -> None:
        """Write the tokenizer's files, if there is a tokenizer that can write itself."""
        tokenizer = getattr(self, "tokenizer", None)
        if tokenizer is not None and hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(output_path, **kwargs)


class EachBatch:
    """``Prepared`` for a first module that only knows ``preprocess``: cost is the size of the raw input."""

    def __init__(self, module: Any, inputs: Sequence[Any], prompt: str | None, kwargs: dict[str, Any]) -> None:
        self.module, self.inputs, self.prompt, self.kwargs = module, inputs, prompt, kwargs
        self.sizes = np.fromiter((raw_size(item) for item in inputs), dtype=np.int64, count=len(inputs))
        self.cut: Sequence[int] = ()
        self.limit: int | None = None

    def batch(self, rows: np.ndarray[Any, Any]) -> Features:
        return preprocess(self.module, [self.inputs[row] for row in rows], self.prompt, self.kwargs)


def preprocess(module: Any, inputs: Sequence[Any], prompt: str | None, kwargs: dict[str, Any]) -> Features:
    """Call ``preprocess`` of the first module, or ``tokenize`` where that is all it has."""
    if isinstance(module, InputModule):
        return module.preprocess(inputs, prompt=prompt, **kwargs)
    return dict(module.tokenize(InputModule._prepend_prompt(inputs, prompt)))


def raw_size(item: Any) -> int:
    """A cheap estimate of how much work one input is: characters, elements, or the sum over its parts."""
    if isinstance(item, str):
        return len(item)
    if isinstance(item, dict):
        return sum(raw_size(value) for value in item.values())
    if isinstance(item, (list, tuple)):
        return sum(raw_size(value) for value in item)
    if isinstance(item, Tensor):
        return item.numel()
    if isinstance(item, np.ndarray):
        return item.size
    width, height = getattr(item, "size", (1, 1)) if hasattr(item, "convert") else (1, 1)  # a PIL image
    return int(width) * int(height)


def module_device(module: nn.Module) -> torch.device:
    """The device of the first parameter or buffer; the CPU when there is none."""
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.device("cpu"))
