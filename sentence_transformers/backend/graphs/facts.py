"""What a graph file of ours says of itself. Imports neither torch nor a runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

KEY = "sentence_transformers"
"""Where the facts are kept: a key of ONNX ``metadata_props`` and of OpenVINO ``rt_info``."""

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"  # inputs, int64 (B, T)
STATES = "last_hidden_state"  # (B, T, D)
LOGITS = "logits"  # (B, labels), (B, T, V), or (B, V) of the last token
EMBEDDING = "sentence_embedding"  # (B, D)


@dataclass(frozen=True)
class HeldModule:
    """A module behind the transformer that a graph holds.

    type: its saved class name. config: its ``get_config_dict()``. digest: of its weights; "" without any.
    """

    type: str
    config: Mapping[str, Any]
    digest: str = ""


@dataclass(frozen=True)
class Facts:
    """task: of the transformer (see ``native.heads``). modules: those behind it, in order."""

    task: str
    modules: tuple[HeldModule, ...] = field(default=())

    def to_json(self) -> str:
        """One line, keys in a fixed order."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """Raises: ValueError, KeyError or TypeError where the text is not one of ``to_json``."""
        found = json.loads(text)
        return cls(found["task"], tuple(HeldModule(**entry) for entry in found["modules"]))
