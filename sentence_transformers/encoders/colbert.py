"""Other people's late-interaction models as modules of ours: Stanford ColBERT, PyLate, and dense models.

Knows layouts and config keys; the encoder decides when to use which.
"""

from __future__ import annotations

import logging
import string
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sentence_transformers.encoders.loading import architectures, bare_transformer
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.json_files import read_json
from sentence_transformers.modules.late import MultiVectorMask
from sentence_transformers.modules.linear import Dense, Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer import Transformer

logger = logging.getLogger(__name__)

TOKENS = "token_embeddings"
WIDTH = 128
QUERY_LENGTH = 32
PYLATE_KEYS = (
    "query_prefix",
    "document_prefix",
    "query_length",
    "document_length",
    "query_expansion",
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "attend_to_mask_tokens",
    "skiplist_words",
)


def projection(width: int, to: int = WIDTH, weight: torch.Tensor | None = None) -> Dense:
    """The matrix that ColBERT puts behind the transformer; random where there is no ``weight`` (to, width)."""
    return Dense(width, to, bias=False, activation_function=None, init_weight=weight, module_input_name=TOKENS)


def ending(skiplist: Sequence[str] | None) -> list[nn.Module]:
    """The last two modules: which tokens count, and length 1 for each."""
    return [MultiVectorMask(skiplist), Normalize(module_input_name=TOKENS)]


def register_prefixes(transformer: Transformer, prompts: Mapping[str, str | None]) -> None:
    """Make marks such as ``[unused0]`` at the start of a prompt one token, where the vocabulary has them as one."""
    for prompt in prompts.values():
        mark = (prompt or "").strip()
        if not mark or " " in mark or transformer.text.processor is None:
            continue
        rust = transformer.text.processor.tokenizer
        if rust.token_to_id(mark) is not None and len(rust.encode(mark, add_special_tokens=False).ids) > 1:
            transformer.text.add_special_tokens([mark])


# --- PyLate ----------------------------------------------------------------------------------------------------------


def transformer_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lengths and query expansion out of PyLate's config keys; {} where there are none."""
    if not any(key in config for key in PYLATE_KEYS):
        return {}
    settings = {key: config[key] for key in ("query_length", "document_length") if config.get(key) is not None}
    expansion = config.get("query_expansion")
    if isinstance(expansion, dict):
        settings["query_expansion"] = expansion
    elif config.get("do_query_expansion", True) is not False and expansion is not False:
        attend = config.get("attend_to_expansion_tokens", config.get("attend_to_mask_tokens", False))
        settings["query_expansion"] = expand_to(config.get("query_length") or QUERY_LENGTH, bool(attend))
    return settings


def expand_to(length: int, attend: bool) -> dict[str, Any]:
    """The settings of a query expansion with mask tokens to a fixed length."""
    return {"strategy": "fixed", "attend": attend, "length": length}


def with_prefixes(config: dict[str, Any]) -> dict[str, Any]:
    """The config with PyLate's prefixes in front of the prompts "query" and "document"."""
    prompts = dict(config.get("prompts") or {})
    for role in ("query", "document"):
        prefix, prompt = config.get(f"{role}_prefix"), prompts.get(role) or ""
        if prefix and not prompt.startswith(prefix):
            prompts[role] = prefix + prompt
    return {**config, "prompts": prompts} if prompts else config


def from_pylate(modules: OrderedDict[str, nn.Module], config: Mapping[str, Any]) -> OrderedDict[str, nn.Module]:
    """PyLate's modules, whose scores skip some words and compare directions, with the modules that do so."""
    for module in modules.values():
        if isinstance(module, Dense):
            _on_tokens(module)
    words = config.get("skiplist_words")
    return _numbered([*modules.values(), *ending(list(string.punctuation) if words is None else words)])


# --- dense models ----------------------------------------------------------------------------------------------------


def from_dense(modules: OrderedDict[str, nn.Module]) -> OrderedDict[str, nn.Module]:
    """A dense model on tokens: no pooling, its projections on every token, or an untrained one."""
    kept = [
        module
        for module in modules.values()
        if not isinstance(module, Pooling)
        and not (isinstance(module, Normalize) and module.module_input_name == "sentence_embedding")
    ]
    dense = [module for module in kept if isinstance(module, Dense)]
    for module in dense:
        _on_tokens(module)
    if not dense:
        width = next(m.get_embedding_dimension() for m in kept if isinstance(m, Transformer))
        logger.warning("The dense model has no projection: it gets an untrained one to %d dimensions.", WIDTH)
        kept.append(projection(width))
    return _numbered([*kept, *ending(None)])


def _on_tokens(dense: Dense) -> None:
    if dense.module_input_name == "sentence_embedding":
        dense.module_input_name = TOKENS
        dense.module_output_name = TOKENS


def _numbered(modules: Sequence[nn.Module]) -> OrderedDict[str, nn.Module]:
    return OrderedDict((str(i), module) for i, module in enumerate(modules))


# --- Stanford ColBERT ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stanford:
    """What a folder of Stanford ColBERT says. metadata: ``artifact.metadata``. weight: (to, width)."""

    metadata: Mapping[str, Any]
    weight: torch.Tensor

    @property
    def prompts(self) -> dict[str, str]:
        """The marks that stand before queries and documents, each with the space that ends it."""
        query, document = (
            self.metadata.get(key, default)
            for key, default in (("query_token_id", "[unused0]"), ("doc_token_id", "[unused1]"))
        )
        return {"query": f"{query} ", "document": f"{document} "}

    def modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """Transformer, projection, mask, norm."""
        length = self.metadata.get("query_maxlen", QUERY_LENGTH)
        late: dict[str, Any] = {
            "query_expansion": expand_to(length, bool(self.metadata.get("attend_to_mask_tokens", False))),
            "document_length": self.metadata.get("doc_maxlen"),
        }
        transformer = bare_transformer(folder, {**settings, **late})
        skipped = list(string.punctuation) if self.metadata.get("mask_punctuation", True) else None
        to, width = self.weight.shape
        return [transformer, projection(width, to, self.weight), *ending(skipped)]


def read_stanford(folder: Path) -> Stanford | None:
    """A folder of Stanford ColBERT; None if it is of something else."""
    if "HF_ColBERT" not in architectures(folder):
        return None
    path = checkpoint.find_weights(folder)
    weights = checkpoint.read_weights(path)
    weight = checkpoint.tensor(weights, "linear.weight", (None, None), path).float()
    metadata = folder / "artifact.metadata"
    return Stanford(read_json(metadata) if metadata.is_file() else {}, weight)
