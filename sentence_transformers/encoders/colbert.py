"""Other people's late-interaction models as modules of ours: Stanford ColBERT, PyLate, and dense models.

Knows layouts and config keys; the encoder decides when to use which.
"""

from __future__ import annotations

import logging
import string
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sentence_transformers.encoders.loading import architectures, bare_transformer, numbered
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.json_files import read_json
from sentence_transformers.modules.late import MultiVectorMask
from sentence_transformers.modules.linear import Dense, Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer import Transformer

logger = logging.getLogger(__name__)

TOKENS = "token_embeddings"
PYLATE = "ColBERT"  # the model_type of its saves
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


def register_marks(transformer: Transformer, prefixes: Iterable[str | None]) -> None:
    """Make the words of prefixes, such as ``[unused0]``, one token each where the vocabulary has them as one."""
    if transformer.text.processor is None:
        return
    rust = transformer.text.processor.tokenizer
    marks = [mark for prefix in prefixes for mark in (prefix or "").split() if rust.token_to_id(mark) is not None]
    split = [mark for mark in dict.fromkeys(marks) if len(rust.encode(mark, add_special_tokens=False).ids) > 1]
    if split:
        transformer.text.add_special_tokens(split)


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
        if isinstance(module, Transformer):
            register_marks(module, (config.get("query_prefix"), config.get("document_prefix")))
    words = config.get("skiplist_words")
    return numbered([*modules.values(), *ending(list(string.punctuation) if words is None else words)])


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
        width = next((m.get_embedding_dimension() for m in kept if isinstance(m, Transformer)), None)
        if width is None:
            raise ValueError(
                "Late interaction needs a vector for each token, so a model with a Transformer; this one consists of "
                f"{', '.join(type(module).__name__ for module in modules.values())}."
            )
        logger.warning("The dense model has no projection: it gets an untrained one to %d dimensions.", WIDTH)
        kept.append(projection(width))
    return numbered([*kept, *ending(None)])


def _on_tokens(dense: Dense) -> None:
    if dense.module_input_name == "sentence_embedding":
        dense.module_input_name = TOKENS
        dense.module_output_name = TOKENS


# --- Stanford ColBERT ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stanford:
    """What a folder of Stanford ColBERT says. metadata: ``artifact.metadata``. weight: (to, width)."""

    metadata: Mapping[str, Any]
    weight: torch.Tensor

    @property
    def prompts(self) -> dict[str, str]:
        """The marks that stand before queries and documents, each with the space that ends it."""
        query, document = self._get("query_token_id", "[unused0]"), self._get("doc_token_id", "[unused1]")
        return {"query": f"{query} ", "document": f"{document} "}

    def _get(self, key: str, default: Any) -> Any:
        """A setting; one that is absent or null has its default."""
        found = self.metadata.get(key)
        return default if found is None else found

    def modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]:
        """Transformer, projection, mask, norm."""
        length = self._get("query_maxlen", QUERY_LENGTH)
        late: dict[str, Any] = {
            "query_expansion": expand_to(length, bool(self._get("attend_to_mask_tokens", False))),
            "document_length": self.metadata.get("doc_maxlen"),
        }
        transformer = bare_transformer(folder, {**settings, **late})
        register_marks(transformer, self.prompts.values())
        skipped = list(string.punctuation) if self._get("mask_punctuation", True) else None
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
