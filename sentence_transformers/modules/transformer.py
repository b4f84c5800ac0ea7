"""The first module of nearly every model: texts to token embeddings through a pretrained transformer.

Inference goes through the native engine where the architecture is in its table, else through transformers' model.
``auto_model``, the transformers model, is only built when somebody asks for it: for training, adapters, hooks, its
parameters. From then on the native engine reads that model's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.backend.base import Network
from sentence_transformers.backend.pretrained import Pretrained
from sentence_transformers.backend.transformers import accepted_arguments
from sentence_transformers.errors import ModelFileError, one_of
from sentence_transformers.hub import source
from sentence_transformers.hub.json_files import again, kind, read_json
from sentence_transformers.modules import modality
from sentence_transformers.modules.module import EachBatch, InputModule, Prepared, hub_arguments
from sentence_transformers.modules.parts import WithDimension, renamed_arguments
from sentence_transformers.modules.processing import TokenTable
from sentence_transformers.modules.text_tokenizer import TextTokenizer, limit_of
from sentence_transformers.ops.tokens import Packed, TokenIds

CONFIG_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
TASKS = ("feature-extraction",)
HUB_KEYS = {
    "token": "token",
    "cache_dir": "cache_folder",
    "revision": "revision",
    "local_files_only": "local_files_only",
}
OLD_NAMES = {
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "tokenizer_kwargs": "processor_kwargs",
    "config_args": "config_kwargs",
}
WITH_TYPES = ("bert", "electra")  # native families whose tokenizers give segment numbers


class Transformer(InputModule, WithDimension):
    """A pretrained transformer with its tokenizer.

    Reads texts. Writes ``features["token_embeddings"]``: (B, T, width), or ``Packed`` within ``encode``; and
    ``all_layer_embeddings``, a list of the same, when the config asks for ``output_hidden_states``.

    Args:
        model_name_or_path: a folder or the name of a model.
        transformer_task: what is read from the transformer; "feature-extraction" gives token embeddings.
        model_kwargs: ``dtype`` ("auto", "float16", ...) and anything ``AutoModel.from_pretrained`` takes.
        processor_kwargs: anything ``AutoTokenizer.from_pretrained`` takes.
        config_kwargs: keys of ``config.json`` to override.
        processing_kwargs: ``{"text": {"max_length": ...}}``.
        backend: "torch".
        max_seq_length: the most tokens of one input; None takes the model's own limit.
        do_lower_case: lower-case the input first.
        tokenizer_name_or_path: where the tokenizer is, if not with the model.
        unpad_inputs: kept for saved models; the native engine never pads.
        cache_dir: where downloaded models are kept.

    Raises:
        ModelFileError: a file of the model is missing or damaged.
    """

    config_file_name: ClassVar[str] = CONFIG_FILES[0]
    accepts_packed: ClassVar[bool] = True

    @renamed_arguments(**OLD_NAMES)
    def __init__(
        self,
        model_name_or_path: str,
        *,
        transformer_task: str = "feature-extraction",
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        modality_config: dict[str, Any] | None = None,
        module_output_name: str | None = None,
        max_seq_length: int | None = None,
        do_lower_case: bool = False,
        tokenizer_name_or_path: str | None = None,
        unpad_inputs: bool | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        self.transformer_task = one_of("transformer_task", transformer_task, TASKS)
        self.backend = one_of("backend", backend, ("torch",))
        self.module_output_name = module_output_name or "token_embeddings"
        self.modality_config = modality_config or {
            "text": {"method": "forward", "method_output_name": "last_hidden_state"}
        }
        self.processing_kwargs = processing_kwargs or {}
        self.do_lower_case = do_lower_case
        self.unpad_inputs = unpad_inputs
        model_settings, text_settings, overrides = (
            dict(x or {}) for x in (model_kwargs, processor_kwargs, config_kwargs)
        )
        trust_remote_code = any(
            [settings.pop("trust_remote_code", False) for settings in (model_settings, text_settings, overrides)]
        )
        hub = _hub_arguments({"cache_dir": cache_dir}, model_settings, text_settings, overrides)
        folder = source.find(str(model_name_or_path), **hub).folder
        tokenizer_folder = folder
        if tokenizer_name_or_path is not None:
            tokenizer_folder = source.find(str(tokenizer_name_or_path), **hub).folder
        self.pretrained = Pretrained(folder, model_settings, overrides, trust_remote_code)
        config = self.pretrained.config
        self.text = TextTokenizer(
            tokenizer_folder,
            text_settings,
            with_types=config.get("model_type") in WITH_TYPES if self.pretrained.is_native else None,
            limit=max_seq_length,
            positions=self.pretrained.position_limit,
            lower=do_lower_case,
            trust_remote_code=trust_remote_code,
        )
        self._register()

    def _register(self) -> None:
        """Make the transformers model, once it is built, a child of this module."""
        model = self.pretrained.built
        if model is not None and self._modules.get("model") is not model:
            self._modules["model"] = model.train(self.training)

    # --- what users reach for ----------------------------------------------------------------------------------------

    @property
    def auto_model(self) -> Any:
        """The transformers model; built on first use."""
        model = self.pretrained.model()
        self._register()
        return model

    @property
    def model(self) -> Any:
        """Another name of ``auto_model``."""
        return self.auto_model

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("model", "auto_model") and isinstance(value, nn.Module):
            self.pretrained.replace(value)
            self._register()
        elif name in ("tokenizer", "processor"):  # torch would take a tokenizer that is a module for a child
            self.text.transformers = value
        else:
            super().__setattr__(name, value)

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer; built on first use. Tokens added to it, and its limits, are taken over."""
        return self.text.transformers

    @property
    def processor(self) -> Any:
        """Another name of ``tokenizer`` for a model that reads text alone."""
        return self.text.transformers

    @property
    def max_seq_length(self) -> int | None:
        """The most tokens of one input, special tokens included; longer ones are truncated. None: no limit."""
        return self.text.limit

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.text.limit = value

    @property
    def config(self) -> Any:
        """The transformers config object."""
        return self.auto_model.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pretrained.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.pretrained.dtype

    @property
    def threads_safe(self) -> bool:
        """Whether batches may be computed in several threads at once."""
        return self.network().threads_safe

    def get_embedding_dimension(self) -> int:
        """The width of the token embeddings.

        Raises: ValueError if the config does not say it under any known name.
        """
        whole = self.pretrained.config
        for config in (whole, whole.get("text_config") or {}, whole.get("vision_config") or {}):
            for key in ("hidden_size", "dim", "d_model", "n_embd", "hidden_dim"):
                if isinstance(config.get(key), int):
                    return int(config[key])
        raise ValueError(f"The config of {self.pretrained.folder} does not say how wide the token embeddings are.")

    def network(self) -> Network:
        """What computes the hidden states now: the native engine, or transformers' model."""
        return self.pretrained.network()

    # --- running -----------------------------------------------------------------------------------------------------

    def _tabulate(self, inputs: Sequence[Any], prompt: str | None, processing: dict[str, Any] | None) -> TokenTable:
        processor = self.text.processor
        assert processor is not None
        limit = limit_of(self.processing_kwargs, processing or {})
        return processor(self._prepend_prompt(modality.texts_of(inputs), prompt), limit)

    def prepare(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Prepared:
        """Tokenise all inputs of a call at once."""
        if self.text.processor is None:
            return EachBatch(self, inputs, prompt, {"processing_kwargs": processing_kwargs})
        return PreparedTexts(self._tabulate(inputs, prompt, processing_kwargs), self._facts(prompt))

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Features:
        """Texts, or pairs of texts -> ``input_ids``, ``attention_mask`` (B, T) and what else the model takes."""
        processor = self.text.processor
        if processor is None:
            return self._preprocess_in_python(inputs, prompt)
        table = self._tabulate(inputs, prompt, processing_kwargs)
        return {**processor.pad(table.take(np.arange(len(inputs)))), **self._facts(prompt)}

    def _facts(self, prompt: str | None) -> Features:
        """What later modules want to know of a batch beside its tokens."""
        facts: Features = {"modality": "text"}
        if prompt and self.text.processor is not None:
            facts["prompt_length"] = self.text.processor.prompt_length(prompt)
        return facts

    def _preprocess_in_python(self, inputs: Sequence[Any], prompt: str | None) -> Features:
        texts = self._prepend_prompt(modality.texts_of(inputs), prompt)
        settings: dict[str, Any] = {"padding": True, "truncation": "longest_first", "return_tensors": "pt"}
        return {**self.tokenizer(texts, max_length=self.text.limit, **settings), "modality": "text"}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Token ids -> token embeddings, in the layout that came in.

        With gradients, or in training mode, transformers' model computes; else the native engine where there is one.
        """
        tokens = features.get("tokens")
        if tokens is not None:
            return self._write(features, [Packed(x, tokens.lengths) for x in self._run(tokens)])
        if self.training or torch.is_grad_enabled():
            return self._forward_with_gradients(features)
        ids = features["input_ids"].to(self.device)
        mask = features["attention_mask"].to(self.device) if "attention_mask" in features else torch.ones_like(ids)
        real = mask != 0
        types = features.get("token_type_ids")
        packed = TokenIds(
            ids[real], tuple(real.sum(1).tolist()), None if types is None else types.to(self.device)[real]
        )
        return self._write(features, [_unpack(x, real) for x in self._run(packed)])

    def _run(self, tokens: TokenIds) -> Sequence[Tensor]:
        return self.network().run(tokens, all_layers=self.pretrained.wants_all_layers)

    def _write(self, features: Features, states: Sequence[Any]) -> Features:
        features[self.module_output_name] = states[-1]
        if self.pretrained.wants_all_layers:
            features["all_layer_embeddings"] = list(states)
        return features

    def _forward_with_gradients(self, features: Features) -> Features:
        names = accepted_arguments(self.auto_model)
        output = self.auto_model(**{name: value for name, value in features.items() if name in names})
        states = output.hidden_states if self.pretrained.wants_all_layers else [output.last_hidden_state]
        return self._write(features, states)

    # --- as a torch module -------------------------------------------------------------------------------------------

    def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[Any]:
        """Whoever walks over modules or parameters gets those of the transformers model."""
        _ = self.auto_model
        yield from super().named_modules(memo, prefix, remove_duplicate)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The weights under their names in the transformers model, below ``model.``."""
        _ = self.auto_model
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        _ = self.auto_model
        super()._load_from_state_dict(*args, **kwargs)

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Call ``fn`` on the modules of the transformers model too."""
        _ = self.auto_model
        return super().apply(fn)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.pretrained.apply_(fn)
        return self

    # --- saving and loading ------------------------------------------------------------------------------------------

    def get_config_dict(self) -> dict[str, Any]:
        """What ``sentence_bert_config.json`` holds; the last two keys are for readers older than 5.4."""
        config: dict[str, Any] = {
            "transformer_task": self.transformer_task,
            "modality_config": self.modality_config,
            "module_output_name": self.module_output_name,
            "max_seq_length": self.max_seq_length,
            "do_lower_case": self.do_lower_case,
        }
        return {**config, "processing_kwargs": self.processing_kwargs} if self.processing_kwargs else config

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write config, weights and tokenizer; weights are always safetensors."""
        self.pretrained.save(Path(output_path))
        self.text.save(Path(output_path))
        self.save_config(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        **kwargs: Any,
    ) -> Self:
        """Open the transformer of a model folder; the given settings win over the saved ones."""
        found = source.find(model_name_or_path, **hub_arguments(kwargs))
        folder = found.path(subfolder) if subfolder else found.folder
        saved: dict[str, Any] = {}
        for name in CONFIG_FILES:
            path = found.file(name, subfolder=subfolder)
            if path is not None:
                saved = read_json(path)
                _check_kinds(saved, path)
                break
        for old, new in OLD_NAMES.items():
            if old in saved:
                saved.setdefault(new, saved.pop(old))
        settings: dict[str, Any] = {}
        for name, given in (
            ("model_kwargs", model_kwargs),
            ("processor_kwargs", processor_kwargs),
            ("config_kwargs", config_kwargs),
        ):
            merged = {**(saved.pop(name, None) or {}), **(given or {})}
            merged.pop("trust_remote_code", None)
            settings[name] = merged
        settings["model_kwargs"]["trust_remote_code"] = trust_remote_code
        known = (
            "transformer_task",
            "modality_config",
            "module_output_name",
            "processing_kwargs",
            "max_seq_length",
            "do_lower_case",
        )
        chosen = {key: saved[key] for key in known if saved.get(key) is not None}
        if "model_max_length" in settings["processor_kwargs"]:
            chosen.pop("max_seq_length", None)
        return cls(str(folder), backend=backend, **settings, **chosen)


class PreparedTexts:
    """All texts of a call as token ids (see ``Prepared``)."""

    def __init__(self, table: TokenTable, extra: Features) -> None:
        self.table, self.extra = table, extra
        self.sizes = table.sizes
        self.cut, self.limit = table.cut, table.limit

    def batch(self, rows: np.ndarray[Any, Any]) -> Features:
        return {"tokens": self.table.take(rows), **self.extra}


def _unpack(values: Tensor, real: Tensor) -> Tensor:
    """(N, D) and a (B, T) mask of N real places -> (B, T, D), zero elsewhere."""
    out = values.new_zeros(*real.shape, values.shape[-1])
    out[real] = values
    return out


def _check_kinds(saved: dict[str, Any], path: Path) -> None:
    """Whether the values of ``sentence_bert_config.json`` are what the constructor takes."""
    objects = (*OLD_NAMES, *OLD_NAMES.values(), "processing_kwargs", "modality_config")
    for key, value in saved.items():
        if value is None:
            continue
        if key == "max_seq_length" and type(value) is not int:
            expected = "a whole number or null"
        elif key in objects and not isinstance(value, dict):
            expected = "an object"
        else:
            continue
        raise ModelFileError(f"{path}: expected {key!r} to be {expected}, found {kind(value)}. {again(path)}")


def _hub_arguments(*settings: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments that say where to find the model out of the settings (they may stand in any of them)."""
    hub: dict[str, Any] = {}
    for group in settings:
        for key, name in HUB_KEYS.items():
            if key in group:
                hub[name] = group.pop(key)
    return hub
