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

from sentence_transformers.ops.tokens import Packed, TokenIds

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

TEXT_ARGUMENTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"})


def load_config(folder: Path, **kwargs: Any) -> Any:
    """The transformers config object of a folder."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(folder), **kwargs)


def load_model(folder: Path, config: Any, **kwargs: Any) -> Any:
    """The transformers model of a folder, in evaluation mode."""
    import transformers

    name = ENCODERS.get(config.model_type)
    if name is not None:
        if config.model_type == "t5gemma":
            config.is_encoder_decoder = False
        model = getattr(transformers, name).from_pretrained(str(folder), config=config, **kwargs)
    else:
        model = transformers.AutoModel.from_pretrained(str(folder), config=config, **kwargs)
    return model.eval()


class TransformersNetwork:
    """A transformers model as a ``Network``.

    Args:
        model: maps ``input_ids`` and ``attention_mask`` (B, T) to ``last_hidden_state`` (B, T, width).
        padding_id: what fills the shorter rows.
    """

    threads_safe = False  # models cache positions, masks and rotary tables on themselves as they run
    position_limit = None

    def __init__(self, model: nn.Module, padding_id: int) -> None:
        self.model, self.padding_id = model, padding_id
        self._accepts = accepted_arguments(model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def run(self, tokens: TokenIds, all_layers: bool = False) -> Sequence[Tensor]:
        tokens = tokens.to(self.device)
        mask = Packed(torch.ones_like(tokens.ids)[:, None], tokens.lengths).pad().mask
        if not tokens.ids.numel():  # models cannot run on no token at all; of this one nothing is kept
            mask = mask.new_zeros(len(tokens.lengths), 1)
        ids = torch.full_like(mask, self.padding_id)
        ids[mask != 0] = tokens.ids
        features = {"input_ids": ids, "attention_mask": mask}
        if tokens.type_ids is not None:
            features["token_type_ids"] = torch.zeros_like(mask)
            features["token_type_ids"][mask != 0] = tokens.type_ids
        with torch.inference_mode():
            output = self.model(
                **{name: value for name, value in features.items() if name in self._accepts},
                **({"output_hidden_states": True} if all_layers else {}),
            )
        states = output.hidden_states if all_layers else [output.last_hidden_state]
        return [state[mask != 0] for state in states]

    def apply_(self, change: Callable[[Tensor], Tensor]) -> None:
        self.model._apply(change)  # type: ignore[no-untyped-call]


def accepted_arguments(model: nn.Module) -> frozenset[str]:
    """The names of the arguments of a model's ``forward``; for a wrapper that hands on any, those of a text model."""
    parameters = inspect.signature(model.forward).parameters
    if "input_ids" not in parameters and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return TEXT_ARGUMENTS
    return frozenset(parameters)
