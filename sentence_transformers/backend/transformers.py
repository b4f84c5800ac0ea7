"""Any architecture through transformers' own model: padded inside, packed outside.

This is how networks run that the native engine does not know, and how every network is built for training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend.native.heads import CLASSIFY, FEATURES, FILL, GENERATE
from sentence_transformers.ops.tokens import TokenIds

# Encoder-decoder models of which an embedding model only uses the first half, and the class that is that half.
ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
    "udop": "UdopEncoderModel",
    "t5gemma": "T5GemmaEncoderModel",
}

# task -> the class of transformers that has its head
MODEL_CLASSES = {
    FEATURES: "AutoModel",
    CLASSIFY: "AutoModelForSequenceClassification",
    FILL: "AutoModelForMaskedLM",
    GENERATE: "AutoModelForCausalLM",
}

TEXT_ARGUMENTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"})


def load_config(folder: Path, **kwargs: Any) -> Any:
    """The transformers config object of a folder."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(folder), **kwargs)


def load_model(folder: Path, config: Any, task: str = FEATURES, **kwargs: Any) -> Any:
    """The transformers model of a folder for a task of ``MODEL_CLASSES``, in evaluation mode."""
    import transformers

    name = MODEL_CLASSES[task]
    if task == FEATURES and config.model_type in ENCODERS:
        name = ENCODERS[config.model_type]
        if config.model_type == "t5gemma":
            config.is_encoder_decoder = False
    return getattr(transformers, name).from_pretrained(str(folder), config=config, **kwargs).eval()


class TransformersNetwork:
    """A transformers model as a ``Network``.

    Args:
        model: maps ``input_ids`` and ``attention_mask`` (B, T) to ``last_hidden_state`` (B, T, width), or ``logits``.
        padding_id: what fills the shorter rows.
        task: one of ``MODEL_CLASSES``.
    """

    threads_safe = False  # models cache positions, masks and rotary tables on themselves as they run
    position_limit = None

    def __init__(self, model: nn.Module, padding_id: int, task: str = FEATURES) -> None:
        self.model, self.padding_id, self.task = model, padding_id, task
        self._accepts = accepted_arguments(model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def run(self, tokens: TokenIds, all_layers: bool = False) -> Sequence[Tensor]:
        features, real = self._padded(tokens)
        extra = {"output_hidden_states": True} if all_layers else {}
        with torch.inference_mode():
            output = self.model(**features, **extra)
        states = output.hidden_states if all_layers else [output.last_hidden_state]
        return [state[real] for state in states]

    def logits(self, tokens: TokenIds) -> Tensor:
        # a generator is asked for its last place only, so its texts end there
        features, real = self._padded(tokens, on_the_left=self.task == GENERATE)
        if self.task == GENERATE:
            features |= {"position_ids": (real.cumsum(1) - 1).clamp(min=0), "logits_to_keep": 1}
        with torch.inference_mode():
            output: Tensor = self.model(**{k: v for k, v in features.items() if k in self._accepts}).logits
        if self.task == GENERATE:
            return output[:, -1]
        return output[real] if self.task == FILL else output

    def _padded(self, tokens: TokenIds, on_the_left: bool = False) -> tuple[dict[str, Any], Tensor]:
        """Arguments (B, T) for the model, and which of their places are tokens."""
        tokens = tokens.to(self.device)
        lengths = torch.tensor(tokens.lengths, device=self.device)[:, None]
        # models cannot run on no token at all; of this one nothing is kept
        place = torch.arange(max((1, *tokens.lengths)), device=self.device).expand(len(lengths), -1)
        real = place >= place.shape[1] - lengths if on_the_left else place < lengths
        ids = torch.full(real.shape, self.padding_id, device=self.device)
        ids[real] = tokens.ids
        seen = real if tokens.visible is None else place < torch.tensor(tokens.visible, device=self.device)[:, None]
        features = {"input_ids": ids, "attention_mask": seen.long()}
        if tokens.type_ids is not None:
            features["token_type_ids"] = torch.zeros_like(ids)
            features["token_type_ids"][real] = tokens.type_ids
        return {name: value for name, value in features.items() if name in self._accepts}, real

    def apply_(self, change: Callable[[Tensor], Tensor]) -> None:
        self.model._apply(change)  # type: ignore[no-untyped-call]


def accepted_arguments(model: nn.Module) -> frozenset[str]:
    """The names of the arguments of a model's ``forward``; for a wrapper that hands on any, those of a text model."""
    parameters = inspect.signature(model.forward).parameters
    if "input_ids" not in parameters and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return TEXT_ARGUMENTS
    return frozenset(parameters)
