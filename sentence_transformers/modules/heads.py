"""What rerankers end with: the score of a language model, and linear layers kept in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.modules.module import Module
from sentence_transformers.modules.transformer import Transformer


class LogitScore(Module):
    """The score of a generative reranker: how much rather the model says one word than another.

    Reads ``features[module_input_name]``: (B, T, words), of which the last place counts; writes ``scores``: (B, 1).

    Args:
        true_token_id: the word for relevant. false_token_id: the word for irrelevant; None: the first alone counts.
        module_input_name: the feature with the logits.
    """

    config_keys: ClassVar[Sequence[str]] = ("true_token_id", "false_token_id", "module_input_name")
    accepts_packed: ClassVar[bool] = True

    def __init__(
        self, true_token_id: int, false_token_id: int | None = None, module_input_name: str = "causal_logits"
    ) -> None:
        super().__init__()
        self.true_token_id, self.false_token_id = true_token_id, false_token_id
        self.module_input_name = module_input_name

    @classmethod
    def of_words(cls, transformer: Transformer, true: str, false: str) -> Self:
        """Compare two words of a transformer's vocabulary.

        Raises: ValueError unless each is one token.
        """
        ids = [transformer.text.token_id(word) for word in (true, false)]
        if ids[0] is None or ids[1] is None:
            missing = [word for word, found in zip((true, false), ids, strict=True) if found is None]
            raise ValueError(
                f"A language model is made a reranker by its words {true!r} and {false!r}, but its vocabulary lacks "
                f"{missing}. Pass modules=[Transformer(..., transformer_task='text-generation'), "
                "LogitScore(true_token_id, false_token_id)]."
            )
        return cls(ids[0], ids[1])

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Logits -> scores."""
        last: Tensor = features[self.module_input_name][:, -1]
        scores = last[:, self.true_token_id]
        if self.false_token_id is not None:
            scores = scores - last[:, self.false_token_id]
        features["scores"] = scores[:, None]
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config; there are no weights."""
        self.save_config(output_path)


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 whatever the type of its weights and of the model around it.

    What comes out is float32, too: what follows must take that.
    """

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(input.float(), self.weight.float(), bias)


def keep_in_float32(model: nn.Module, names: Sequence[str]) -> None:
    """Make plain linear layers of a model compute in float32, and only these; their weights stay what they are.

    Args:
        names: paths such as ``"0.model.classifier"``.

    Raises: ValueError for a path that leads nowhere or to another kind of layer; then nothing is changed.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"keep_in_fp32_modules must be a list of module paths; got {names!r}.")
    found = dict(model.named_modules())
    for name in names:
        if type(found.get(name)) not in (nn.Linear, Float32Linear):
            kind = f"a {type(found[name]).__name__}" if name in found else "not in this model"
            raise ValueError(f"keep_in_fp32_modules supports only plain nn.Linear layers; {name!r} is {kind}.")
    for name, module in found.items():
        if name in names or type(module) is Float32Linear:
            module.__class__ = Float32Linear if name in names else nn.Linear
