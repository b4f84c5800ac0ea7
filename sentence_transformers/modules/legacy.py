"""Modules under the names they once had."""

from __future__ import annotations

from typing import Any

from typing_extensions import Self

from sentence_transformers.backend.native.heads import FILL
from sentence_transformers.modules.transformer import Transformer


class MLMTransformer(Transformer):
    """The old name of ``Transformer(..., transformer_task="fill-mask")``. Arguments: those of ``Transformer``."""

    def __init__(self, model_name_or_path: str, **kwargs: Any) -> None:
        kwargs.setdefault("transformer_task", FILL)
        super().__init__(model_name_or_path, **kwargs)

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> Self:
        """As ``Transformer.load``; folders of before version 5.4 name no task."""
        kwargs["init_defaults"] = {"transformer_task": FILL, **(kwargs.get("init_defaults") or {})}
        return super().load(model_name_or_path, *args, **kwargs)
