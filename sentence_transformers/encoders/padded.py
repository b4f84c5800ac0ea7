"""All features of every input, for ``output_value=None``: batches preprocessed to the padded dict that is public."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers._types import Features
from sentence_transformers.encoders.encoder import Encoder
from sentence_transformers.modules.module import EachBatch


class PaddedInputs:
    """A model whose inputs are preprocessed batch by batch, and whose modules see padded tensors."""

    def __init__(self, model: Encoder) -> None:
        self.model = model
        self.device = model.device

    def __iter__(self) -> Iterator[Any]:
        return iter([nn.Identity()])  # says nothing of threads: batches run one by one

    def __call__(self, features: Features, **kwargs: Any) -> Features:
        return dict(self.model(features, **kwargs))

    def prepare(self, inputs: Sequence[Any], prompt: str | None, **kwargs: Any) -> Any:
        batches = EachBatch(self.model[0], inputs, prompt, kwargs)
        counted = self.model.prepare(inputs, prompt, **kwargs)  # ``preprocess`` does not tell what it has cut
        batches.cut, batches.limit = counted.cut, counted.limit
        return batches


def feature_rows(features: Features) -> list[dict[str, Any]]:
    """Every feature of every input: tensors that have a row per input are taken apart, the rest is repeated."""
    name = "sentence_embedding" if "sentence_embedding" in features else "token_embeddings"
    count = len(features[name])
    with torch.inference_mode(False):  # ordinary tensors: the caller may use them with gradients
        return [
            {
                key: value[i].clone() if isinstance(value, Tensor) and value.ndim and len(value) == count else value
                for key, value in features.items()
            }
            for i in range(count)
        ]
