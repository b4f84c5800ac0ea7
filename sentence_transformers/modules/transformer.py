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
from sentence_transformers.backend.base import BACKENDS, Network
from sentence_transformers.backend.graphs.pretrained import PretrainedGraph
from sentence_transformers.backend.native.heads import FEATURES, FILL, GENERATE, labels_of
from sentence_transformers.backend.pretrained import Pretrained
from sentence_transformers.backend.transformers import accepted_arguments
from sentence_transformers.errors import one_of
from sentence_transformers.hub import adapters, source
from sentence_transformers.modules import modality
from sentence_transformers.modules.chat import MESSAGE, ChatTemplate, form_of_template
from sentence_transformers.modules.expansion import QueryExpansion, expansion_positions
from sentence_transformers.modules.module import EachBatch, InputModule, Prepared, hub_arguments
from sentence_transformers.modules.parts import PreparedTable, WithDimension, renamed_arguments
from sentence_transformers.modules.processing import TokenTable
from sentence_transformers.modules.text_tokenizer import TextTokenizer, limits_of
from sentence_transformers.modules.token_tensors import pad, take
from sentence_transformers.modules.transformer_config import (
    CONFIG_FILES,
    OLD_NAMES,
    OUTPUTS,
    constructor_arguments,
    read_saved,
    take_hub_arguments,
    width_of,
    with_base,
    with_max_length,
)
from sentence_transformers.ops.layout import packed_tokens
from sentence_transformers.ops.projected import at_places
from sentence_transformers.ops.tokens import Packed, TokenIds

PLAIN = {"input_ids", "attention_mask", "token_type_ids"}  # what is trained without padding has no other arguments


class Transformer(InputModule, WithDimension):
    """A pretrained transformer with its tokenizer.

    Reads texts. What it writes depends on the task:
        feature-extraction: ``token_embeddings`` (B, T, width), or ``Packed`` within ``encode``; and
            ``all_layer_embeddings``, a list of the same, when the config asks for ``output_hidden_states``.
        sequence-classification: ``scores`` (B, labels).
        fill-mask: ``token_embeddings`` (B, T, words), or ``Projected`` within ``encode``.
        text-generation: ``causal_logits`` (B, 1, words), those after the last token.

    Args:
        model_name_or_path: a folder or the name of a model.
        transformer_task: one of these tasks.
        model_kwargs: ``dtype`` ("auto", "float16", ...) and anything ``AutoModel.from_pretrained`` takes.
        processor_kwargs: anything ``AutoTokenizer.from_pretrained`` takes.
        config_kwargs: keys of ``config.json`` to override.
        processing_kwargs: ``{"text": {"max_length": ...}}``.
        backend: what computes: "torch", "onnx" or "openvino".
        max_seq_length: the most tokens of one input; None takes the model's own limit.
        do_lower_case: lower-case the input first.
        tokenizer_name_or_path: where the tokenizer is, if not with the model.
        unpad_inputs: kept for saved models; the native engine never pads.
        query_length, document_length: the most tokens of inputs of the task "query" or "document".
        query_expansion: ``{"strategy": "fixed" or "min", "attend": bool, "token": str or None, "length": int}``: how
            queries are filled up with tokens (see ``modules.expansion``).
        cache_dir: where downloaded models are kept.

    Raises:
        ModelFileError: a file of the model is missing or damaged.
        ValueError: an unknown task, or a query expansion that cannot be.
    """

    config_file_name: ClassVar[str] = CONFIG_FILES[0]
    accepts_packed: ClassVar[bool] = True

    @renamed_arguments(**OLD_NAMES)
    def __init__(
        self,
        model_name_or_path: str,
        *,
        transformer_task: str = FEATURES,
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
        query_length: int | None = None,
        document_length: int | None = None,
        query_expansion: dict[str, Any] | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        self.transformer_task = one_of("transformer_task", transformer_task, tuple(OUTPUTS))
        self.backend = one_of("backend", backend, BACKENDS)
        read, written = OUTPUTS[transformer_task]
        self.module_output_name = module_output_name or written
        self.processing_kwargs = processing_kwargs or {}
        self.query_length, self.document_length = query_length, document_length
        self.do_lower_case = do_lower_case
        self.unpad_inputs = unpad_inputs
        groups = [dict(group or {}) for group in (model_kwargs, processor_kwargs, config_kwargs)]
        model_settings, text_settings, overrides = groups
        trust_remote_code = any([group.pop("trust_remote_code", False) for group in groups])
        hub = take_hub_arguments({"cache_dir": cache_dir}, *groups)
        if transformer_task == GENERATE:
            text_settings.setdefault("padding_side", "left")
        found = source.find(str(model_name_or_path), **hub)
        base = adapters.base_of(found, **hub)
        tokenizer_folder = base.tokenizer
        if tokenizer_name_or_path is not None:
            tokenizer_folder = source.find(str(tokenizer_name_or_path), **hub).folder
        told = base.folder, model_settings, overrides, trust_remote_code, transformer_task, base
        self.pretrained = Pretrained(*told) if backend == "torch" else PretrainedGraph(*told, backend=backend)
        self.text = TextTokenizer(
            tokenizer_folder,
            text_settings,
            with_types=self.pretrained.takes_types,
            limit=max_seq_length,
            positions=self.pretrained.position_limit,
            lower=do_lower_case,
            trust_remote_code=trust_remote_code,
        )
        reached = {"method": "forward", "method_output_name": read}
        self.modality_config = modality_config or self._modalities_found(reached)
        chat = self.modality_config.get(MESSAGE)
        self._chat = None if chat is None else ChatTemplate(self.text, chat.get("format", "flat"))
        self.query_expansion, self._expansion = query_expansion, None
        if query_expansion is not None:
            self._expansion = QueryExpansion.of(query_expansion, self.text, query_length)
        self._register()

    def _modalities_found(self, reached: dict[str, Any]) -> dict[str, Any]:
        """Text; and messages where the tokenizer has a chat template."""
        form = form_of_template(self.text)
        return {"text": reached} if form is None else {"text": reached, MESSAGE: {**reached, "format": form}}

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
    def modalities(self) -> list[str]:
        """What kinds of input are understood."""
        return list(self.modality_config)

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
        """The width of the token embeddings. Raises: ValueError if the config does not say it under any known name."""
        return width_of(self.pretrained.config, self.pretrained.folder)

    @property
    def num_labels(self) -> int:
        """How many labels a classification head has."""
        return labels_of(self.pretrained.config)

    @property
    def trains_without_padding(self) -> bool:
        """Whether padding costs nothing in training: tokens are computed without it."""
        _ = self.auto_model
        return self.transformer_task == FEATURES and self.pretrained.live() is not None

    def network(self) -> Network:
        """What computes the hidden states now: the native engine, or transformers' model."""
        return self.pretrained.network()

    # --- running -----------------------------------------------------------------------------------------------------

    def _tabulate(
        self, inputs: Sequence[Any], prompt: str | None, processing: dict[str, Any] | None, task: str | None
    ) -> TokenTable:
        processor = self.text.processor
        assert processor is not None
        given = [dict(self.processing_kwargs), dict(processing or {})]
        chat = {} if self._chat is None else {k: v for part in given for k, v in part.pop("chat_template", {}).items()}
        limits = limits_of(*given)
        by_task = {"query": self.query_length, "document": self.document_length}.get(task or "")
        longest = by_task if limits.max_length is None else limits.max_length
        if self._chat is not None:
            return self._chat.table(inputs, prompt, longest, task, chat)
        expansion = self._expansion if task == "query" else None
        if expansion is not None:
            longest = expansion.limit(longest)
        table = processor(self._prepend_prompt(modality.texts_of(inputs), prompt), longest, limits.truncation)
        return table if expansion is None else expansion.apply(table, processor.padding_side)

    def prepare(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        task: str | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> Prepared:
        """Tokenise all inputs of a call at once."""
        if max_length is not None:
            processing_kwargs = with_max_length(processing_kwargs, max_length)
        if self.text.processor is None:
            return EachBatch(self, inputs, prompt, {"processing_kwargs": processing_kwargs})
        table, facts = self._tabulate(inputs, prompt, processing_kwargs, task), self._facts(prompt)
        return PreparedTable(table, lambda tokens: {"tokens": tokens, **facts})

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        task: str | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> Features:
        """Texts, or pairs of texts -> ``input_ids``, ``attention_mask`` (B, T) and what else the model takes."""
        if max_length is not None:
            processing_kwargs = with_max_length(processing_kwargs, max_length)
        processor = self.text.processor
        if processor is None:
            return self._preprocess_in_python(inputs, prompt)
        table = self._tabulate(inputs, prompt, processing_kwargs, task)
        features = {**pad(processor, take(table, np.arange(len(inputs)))), **self._facts(prompt)}
        added = expansion_positions(table, processor.padding_side)
        return features if added is None else {**features, "query_expansion_positions": added}

    def _facts(self, prompt: str | None) -> Features:
        """What later modules want to know of a batch beside its tokens."""
        if self._chat is not None:
            return {"modality": MESSAGE}
        facts: Features = {"modality": "text"}
        if prompt and self.text.processor is not None:
            facts["prompt_length"] = self.text.processor.prompt_length(prompt)
        return facts

    def _preprocess_in_python(self, inputs: Sequence[Any], prompt: str | None) -> Features:
        texts = self._prepend_prompt(modality.texts_of(inputs), prompt)
        settings: dict[str, Any] = {"padding": True, "truncation": "longest_first", "return_tensors": "pt"}
        return {**self.tokenizer(texts, max_length=self.text.limit, **settings), "modality": "text"}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Token ids -> what the task gives, in the layout that came in.

        With gradients, or in training mode, the parameters of transformers' model are used; else the native engine.
        """
        tokens = features.get("tokens")
        if tokens is not None:
            return self._write(features, self._run(tokens))
        if self.backend != "torch" and self.training and torch.is_grad_enabled():
            raise RuntimeError(f"backend={self.backend!r} cannot be trained: open the model with backend='torch'.")
        if self.backend == "torch" and (self.training or torch.is_grad_enabled()):
            return self._forward_with_gradients(features)
        tokens, layout = packed_tokens(features, self.device)
        return self._write(features, [at_places(x, layout.real) for x in self._run(tokens)])

    def _run(self, tokens: TokenIds) -> list[Any]:
        """The output of the network, behind all its layers where those are wanted."""
        network = self.network()
        if self.transformer_task == FEATURES:
            states = network.run(tokens, all_layers=self.pretrained.wants_all_layers)
            return [Packed(x, tokens.lengths) for x in states]
        logits: Any = network.logits(tokens)
        if self.transformer_task == GENERATE:
            return [logits[:, None]]
        by_token = isinstance(logits, Tensor) and self.transformer_task == FILL
        return [Packed(logits, tokens.lengths) if by_token else logits]

    def _write(self, features: Features, outputs: Sequence[Any]) -> Features:
        features[self.module_output_name] = outputs[-1]
        if len(outputs) > 1:
            features["all_layer_embeddings"] = list(outputs)
        return features

    def _forward_with_gradients(self, features: Features) -> Features:
        names = accepted_arguments(self.auto_model)
        given = {name: value for name, value in features.items() if name in names}
        states = self._train_without_padding(features, given)
        if states is not None:
            return self._write(features, states)
        if self.transformer_task == GENERATE and "logits_to_keep" in names:
            given.setdefault("logits_to_keep", 1)
        output = self.auto_model(**given)
        if self.transformer_task != FEATURES:
            return self._write(features, [output.logits])
        states = output.hidden_states if self.pretrained.wants_all_layers else [output.last_hidden_state]
        return self._write(features, states)

    def _train_without_padding(self, features: Features, given: Features) -> list[Tensor] | None:
        """Hidden states (B, T, width), zero where there is no token; None where transformers' model has to compute."""
        plain = "input_ids" in given and given.keys() <= PLAIN and all(value.dim() == 2 for value in given.values())
        live = self.pretrained.live() if plain and self.transformer_task == FEATURES else None
        if live is None:
            return None
        tokens, layout = packed_tokens(features, self.device, by_length=True)
        return [layout.pad(x) for x in live.encode(tokens, self.pretrained.wants_all_layers)]

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
        optional = ("processing_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion")
        config |= {key: value for key in optional if (value := getattr(self, key)) not in (None, {})}
        changed = self.pretrained.unsaved_overrides
        return {**config, "config_kwargs": changed} if changed else config

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
        model_kwargs = with_base(model_kwargs, folder, kwargs)
        given = {"model_kwargs": model_kwargs, "processor_kwargs": processor_kwargs, "config_kwargs": config_kwargs}
        settings = constructor_arguments(
            read_saved(found, subfolder), given, kwargs.get("init_defaults") or {}, trust_remote_code
        )
        return cls(str(folder), backend=backend, **settings)
