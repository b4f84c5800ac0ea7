"""The shared base of all encoders: a chain of modules with prompts, that is opened, run and saved the same way.

A family (dense, sparse, ...) says which modules a bare transformer gets, and what the rows of a batch are.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from sentence_transformers._lazy import Late
from sentence_transformers._types import Features, HubArguments
from sentence_transformers.backend.base import BACKENDS
from sentence_transformers.encoders import calls, graphs, loading
from sentence_transformers.encoders.adapters import PeftAdapterMixin
from sentence_transformers.encoders.quality import RoundedModel, measure_rounding
from sentence_transformers.encoders.saving import Saving
from sentence_transformers.errors import one_of
from sentence_transformers.inference.layout import accepts_packed, padded
from sentence_transformers.inference.run import Request
from sentence_transformers.modules.module import EachBatch, InputModule, Module, Prepared, module_device, preprocess
from sentence_transformers.modules.router import Router
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.device import get_device_name

logger = logging.getLogger(__name__)

HALF = (torch.float16, torch.bfloat16)


class Encoder(Saving, PeftAdapterMixin, nn.Sequential):
    """A model made of modules that hand on one features dict.

    Args:
        model_name_or_path: a folder, or the name of a model; None with ``modules``.
        modules: the modules themselves, as a list or as an ``OrderedDict`` of named ones.
        device: "cpu", "cuda:0", ...; None takes the best device there is.
        prompts: name -> text that is put before every input encoded with that ``prompt_name``.
        default_prompt_name: the prompt of calls that name none.
        cache_folder: where downloaded models are; None: ``SENTENCE_TRANSFORMERS_HOME``, else the Hugging Face cache.
        trust_remote_code: run code that comes with the model.
        revision: branch, tag or commit of a model on the Hub.
        local_files_only: never ask the network.
        token: for private models.
        model_kwargs: settings of the transformer: ``dtype``, ``quantize="int8"`` (CPU only), and those of
            ``AutoModel.from_pretrained``. processor_kwargs, config_kwargs: of its tokenizer, of its config.
        model_card_data: what the model card says.
        backend: what computes: "torch"; "onnx" or "openvino", with a graph of the model that is found or exported.

    Raises:
        FileNotFoundError: there is no such model.
        ModelFileError: a file of the model is missing or damaged.
        UntrustedCodeError: the model wants to run code, and ``trust_remote_code`` is False.
    """

    model_type: ClassVar[str]
    default_huggingface_organization: ClassVar[str | None] = None
    _default_prompts: ClassVar[dict[str, str | None]] = {}
    model_card_data_class: ClassVar[Any]
    _no_split_modules: ClassVar[list[str]] = []  # these two are read by transformers' Trainer and by accelerate
    _keys_to_ignore_on_save: ClassVar[list[str]] = []
    is_hpu_graph_enabled: bool = False
    _origin: tuple[str, str | None] | None = None  # name and commit on the Hub
    quantization: RoundedModel | None
    """Of a model in 8 bits: the kernel, the memory, and how close its answers are to those in float32."""

    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Iterable[nn.Module] | OrderedDict[str, nn.Module] | None = None,
        device: str | torch.device | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
    ) -> None:
        self.prompts: dict[str, str] = {**self._default_prompts, **(prompts or {})}  # type: ignore[dict-item]
        self.default_prompt_name = default_prompt_name
        self.trust_remote_code = trust_remote_code
        self.backend: str = one_of("backend", backend, BACKENDS)
        self.module_kwargs: dict[str, list[str]] = {}
        self._model_card_text: str | None = None
        self._model_card_vars: dict[str, Any] = {}

        if not model_name_or_path:
            named = self._name_modules(modules)
        else:
            if modules is not None:
                logger.warning("Both a model name and modules were given: modules are ignored.")
            where = HubArguments(
                token=token, cache_folder=cache_folder, revision=revision, local_files_only=local_files_only
            )
            settings = {
                "trust_remote_code": trust_remote_code,
                "model_kwargs": model_kwargs,
                "processor_kwargs": processor_kwargs,
                "config_kwargs": config_kwargs,
                "backend": backend,
            }
            named = self._open(model_name_or_path, where, settings)
        super().__init__(named)
        graphs.complete(self)
        self._settle(device, explicit_dtype=_asks_for_dtype(model_kwargs))
        if (model_kwargs or {}).get("dtype", (model_kwargs or {}).get("torch_dtype")) == "auto":
            self._take_half_on_a_gpu()
        self.model_card_data = model_card_data or self.model_card_data_class()
        self.model_card_data.register_model(self)
        if self._origin is not None:
            self.model_card_data.came_from(*self._origin)
        for module in self:
            if isinstance(module, Module):
                module.on_model_ready(self)
        self.quantization = measure_rounding(self, asked=(model_kwargs or {}).get("quantize") is not None)

    def default_modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """The modules that a bare transformer in ``folder`` gets. ``settings``: arguments of ``Transformer.load``."""
        raise NotImplementedError

    def module_defaults(self, config: dict[str, Any]) -> dict[str, Any]:
        """Settings of the transformer that a saved config holds. ``config``: ``config_sentence_transformers.json``."""
        return {}

    def understands(self, saved_type: str) -> bool:
        """Whether a model of this other family can be converted whole; else it only lends its transformer."""
        return False

    def convert(
        self, saved_type: str, modules: OrderedDict[str, nn.Module], config: dict[str, Any]
    ) -> OrderedDict[str, nn.Module]:
        """The modules of a model of another family that this one understands, as those of this family."""
        raise NotImplementedError

    def _open(self, name: str, where: HubArguments, settings: dict[str, Any]) -> OrderedDict[str, nn.Module]:
        """Open a saved model: its modules are returned, its settings taken over."""
        loaded = loading.load(name, self, where, settings)
        self._take_config(loaded.config)
        self.module_kwargs = loaded.module_kwargs
        self._model_card_text = loaded.card
        self._origin = loaded.origin
        return loaded.modules

    def _name_modules(
        self, modules: Iterable[nn.Module] | OrderedDict[str, nn.Module] | None
    ) -> OrderedDict[str, nn.Module]:
        if modules is None:
            raise ValueError(f"{type(self).__name__} needs a model name or path, or modules=[...].")
        if not isinstance(modules, OrderedDict):
            modules = OrderedDict((str(i), module) for i, module in enumerate(modules))
        if not modules:
            raise ValueError(
                f"An empty modules list was passed to {type(self).__name__}; pass at least one module, or a model name."
            )
        return modules

    def _take_config(self, config: dict[str, Any]) -> None:
        """Settings saved with the model fill what the user left open."""
        for name, text in (config.get("prompts") or {}).items():
            if self.prompts.get(name) is None:
                self.prompts[name] = text
        if self.default_prompt_name is None:
            self.default_prompt_name = config.get("default_prompt_name")

    def _settle(self, device: str | torch.device | None, explicit_dtype: bool) -> None:
        """Bring all modules to one dtype and one device, and check the prompts."""
        self.prompts = {name: text or "" for name, text in self.prompts.items()}
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise ValueError(
                f"Default prompt name '{self.default_prompt_name}' not found in the configured prompts dictionary "
                f"with keys {list(self.prompts)!r}."
            )
        dtype = self.dtype
        if dtype is not None and dtype.is_floating_point:
            for module in list(self)[1:]:
                module.to(dtype)
        for part, _ in graphs.graphs_of(self):
            self.backend = part.backend
            if device is not None and torch.device(device).type != "cpu":
                logger.warning("device=%r is ignored: with backend=%r the graph's runtime says where it computes "
                               "(model_kwargs 'provider' or 'device').", device, part.backend)  # fmt: skip
            device = "cpu"  # where its inputs and outputs are
        if self._placed_by_accelerate():
            if device is not None:
                logger.warning("device=%r is ignored: device_map has placed the model.", device)
        else:
            self.to(torch.device(device) if device is not None else torch.device(get_device_name()))
        if dtype in HALF and self.device.type == "cpu" and not explicit_dtype:
            logger.warning(
                "This model's weights are %s, which most CPUs compute slowly. For speed pass "
                "model_kwargs={'dtype': 'float32'}.", str(dtype).removeprefix("torch."))  # fmt: skip
        self.eval()
        named = {name: text for name, text in self.prompts.items() if text}
        if named:
            logger.info("Prompts: %s; default: %s.", named, self.default_prompt_name)

    def _take_half_on_a_gpu(self) -> None:
        """``dtype="auto"``: on a GPU half precision, unless the weights are in it already."""
        if self.device.type != "cuda" or self.dtype is not torch.float32:
            return
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        self.to(dtype)
        logger.info("dtype='auto': computing in %s on %s.", str(dtype).removeprefix("torch."), self.device)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """``torch.compile`` the network of every transformer of this model, in place; arguments as of that function.

        ``encode`` then really runs what was compiled: transformers' model, padded, instead of the native engine.
        """
        for part in self.parts():
            if isinstance(part, Transformer):
                part.auto_model.compile(*args, **kwargs)

    def _placed_by_accelerate(self) -> bool:
        first = self[0]
        model = first._modules.get("model") if isinstance(first, Transformer) else None
        return getattr(model, "hf_device_map", None) is not None

    # --- running -----------------------------------------------------------------------------------------------------

    def forward(self, input: Features, **kwargs: Any) -> Features:
        """Hand a features dict through all modules; each gets only the keyword arguments that it declares.

        With ``held``, the graph of the first module computes it and so many modules behind it (see ``graphs``).
        """
        features, held = input, kwargs.pop("held", 0)
        whole = graphs.compute_whole(self, features) if held else None
        for place, (name, module) in enumerate(self._modules.items()):
            assert module is not None
            if whole is not None and place <= held:
                features = whole
                continue
            if not accepts_packed(module):
                features = padded(features)
            names = {*getattr(module, "forward_kwargs", ()), *self.module_kwargs.get(name, ())}
            features = module(features, **{key: value for key, value in kwargs.items() if key in names})
        return features

    def prepare(self, inputs: Sequence[Any], prompt: str | None, **kwargs: Any) -> Prepared:
        """All inputs of a call, tokenised by the first module (see ``modules.module.Prepared``)."""
        first = self[0]
        if isinstance(first, InputModule):
            return first.prepare(inputs, prompt=prompt, **kwargs)
        return EachBatch(first, inputs, prompt, kwargs)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """One batch of inputs -> the padded features dict that ``forward`` takes.

        Args:
            inputs: a list of inputs; ``[]`` gives ``{}``.
            prompt: text to put before every input.
        """
        return dict(preprocess(self[0], inputs, prompt, kwargs)) if len(inputs) else {}

    def tokenize(self, texts: Sequence[Any], **kwargs: Any) -> Features:
        """The old name of ``preprocess``."""
        return self.preprocess(texts, **kwargs)

    def _request(
        self, inputs: Any, *, device: Any, pool: Any, caller: str, any_argument: bool = False, **options: Any
    ) -> tuple[Request, bool]:
        """What a call asks for (see ``calls.request``), with the model where and as it has to be."""
        if pool is not None:
            raise NotImplementedError(f"{caller} with pool=... is not part of this version yet; leave it out.")
        self._move_to(device)
        if self.training:
            self.eval()
        return calls.request(
            inputs,
            single=self.is_singular_input(inputs),
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
            allowed=None if any_argument else self.get_model_kwargs(),
            caller=f"{type(self).__name__}.{caller}()",
            **options,
        )

    def _move_to(self, device: Any) -> None:
        """Move the model for good, unless it is there already."""
        if device is None:
            return
        if isinstance(device, (list, tuple)):
            raise NotImplementedError(
                "Encoding on several devices at once is not part of this version yet; pass one device."
            )
        wanted = torch.device(device)
        if wanted.type != self.device.type or wanted.index not in (None, self.device.index):
            self.to(wanted)

    @staticmethod
    def is_singular_input(inputs: Any) -> bool:
        """Whether this is one input rather than a batch (see ``calls.is_single``)."""
        return calls.is_single(inputs)

    def get_model_kwargs(self) -> list[str]:
        """The names of the extra keyword arguments that ``encode`` passes on to modules."""
        names: dict[str, None] = {}
        for name, module in self._modules.items():
            names.update(dict.fromkeys([*getattr(module, "forward_kwargs", ()), *self.module_kwargs.get(name, ())]))
        return list(names)

    # --- what it is --------------------------------------------------------------------------------------------------

    def get_backend(self) -> str:
        """What computes the network."""
        return self.backend

    @property
    def modalities(self) -> list[Any]:
        """The kinds of input that the first module takes."""
        return list(getattr(self[0], "modalities", ["text"]))

    def supports(self, kind: Any) -> bool:
        """Whether an input of this kind, or of this tuple of kinds at once, can be encoded."""
        known = self.modalities
        if kind in known:
            return True
        return isinstance(kind, tuple) and "message" in known and all(part in known for part in kind)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the first module."""
        return self[0].tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self[0].tokenizer = tokenizer

    @property
    def processor(self) -> Any:
        """The processor of the first module: its tokenizer, for text."""
        return getattr(self[0], "processor", None) or self.tokenizer

    @property
    def max_seq_length(self) -> int | None:
        """The most tokens of one input, special tokens included; None where nothing limits it."""
        return getattr(self[0], "max_seq_length", None)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self[0].max_seq_length = value  # type: ignore[assignment]

    def get_max_seq_length(self) -> int | None:
        """The old form of ``max_seq_length``."""
        return self.max_seq_length

    @property
    def transformers_model(self) -> Any:
        """The first transformers model in the chain or in a route of it (built if need be), or None."""
        for module in self.parts():
            if isinstance(module, Transformer):
                return module.auto_model
            if type(module).__module__.startswith("transformers."):
                return module
        return None

    @property
    def config(self) -> Any:
        """The config of ``transformers_model``, or None."""
        model = self.transformers_model
        return None if model is None else model.config

    @config.setter
    def config(self, config: Any) -> None:
        self.transformers_model.config = config

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        for module in self._modules.values():
            if isinstance(module, Transformer):
                return module.device
        for module in self._modules.values():
            if module is not None and (any(True for _ in module.parameters()) or any(True for _ in module.buffers())):
                return module_device(module)
        return torch.device("cpu")

    @property
    def _target_device(self) -> torch.device:
        """The old name of ``device``."""
        logger.warning("_target_device is now device.")
        return self.device

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of the first weights, or None without weights."""
        for module in self._modules.values():
            if isinstance(module, Transformer):
                return module.dtype
            parameter = None if module is None else next(module.parameters(), None)
            if parameter is not None:
                return parameter.dtype
        return None

    def parts(self) -> Iterator[nn.Module]:
        """The modules in order, and in place of a ``Router`` all modules of its routes."""
        for module in self:
            yield from module.parts() if isinstance(module, Router) else (module,)

    def _first_module(self) -> nn.Module:
        return self[0]

    def _last_module(self) -> nn.Module:
        return self[len(self) - 1]

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Run an evaluator on this model; its files go into ``output_path``, which is made."""
        if output_path is not None:
            Path(output_path).mkdir(parents=True, exist_ok=True)
        return evaluator(self, output_path)

    recommend: Any = Late("evaluation.backends:recommend")
    """Race the ways of computing this model on this machine, and recommend one."""

    # --- as a torch module -------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())


def _asks_for_dtype(model_kwargs: dict[str, Any] | None) -> bool:
    given = model_kwargs or {}
    return any(given.get(name) not in (None, "auto") for name in ("dtype", "torch_dtype"))
