"""Late interaction: which token embeddings of an input take part in scores. Knows token ids, not vectors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor

from sentence_transformers._types import Features
from sentence_transformers.modules.module import Module
from sentence_transformers.ops.tokens import Packed, TokenIds

logger = logging.getLogger(__name__)


class MultiVectorMask(Module):
    """Leave out token embeddings that should not take part in late interaction, such as punctuation in documents.

    Of ``Packed`` ``token_embeddings`` and their ``tokens``, both are written with the kept tokens only. Of padded
    ``token_embeddings`` (B, T, D) with ``input_ids`` (B, T), ``attention_mask`` (B, T) becomes bool: the kept tokens.
    The tokens that expand a query (padded: ``query_expansion_positions`` (B, T) bool) count for the task "query"
    although others may not attend to them. Without token ids, nothing happens.

    Args:
        skiplist_words: tokens to leave out; they are looked up in the vocabulary as they are, when the model is ready.
        skiplist_tasks: the tasks whose inputs lose them; default ``["document"]``. No task counts as "document".
        keep_only_token_ids: where there are any, all inputs but queries keep only tokens with these ids.

    Raises: ValueError in ``forward`` if the tokens have been pooled.
    """

    config_keys: ClassVar[Sequence[str]] = ("skiplist_words", "skiplist_tasks", "keep_only_token_ids")
    forward_kwargs: ClassVar[set[str]] = {"task"}
    accepts_packed: ClassVar[bool] = True

    def __init__(
        self,
        skiplist_words: Sequence[str] | None = None,
        *,
        skiplist_tasks: Sequence[str] | None = None,
        keep_only_token_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.skiplist_words = list(skiplist_words or ())
        tasks = ("document",) if skiplist_tasks is None else skiplist_tasks
        self.skiplist_tasks = [tasks] if isinstance(tasks, str) else list(tasks)
        self.keep_only_token_ids = None if keep_only_token_ids is None else list(keep_only_token_ids)
        self._skipped = torch.empty(0, dtype=torch.int64)

    def on_model_ready(self, model: Any) -> None:
        """Look up the words with the model's tokenizer; those that are not one token are dropped, with a warning."""
        if self.skiplist_words:
            self._skipped = torch.tensor(_ids_of(self.skiplist_words, model.tokenizer), dtype=torch.int64)

    def forward(self, features: Features, task: str | None = None, **kwargs: Any) -> Features:
        task = task or features.get("task")
        if isinstance(features["token_embeddings"], Packed):
            return self._keep_packed(features, task)
        ids = features.get("input_ids")
        if ids is None:
            return features
        if ids.shape != features["token_embeddings"].shape[:2]:
            raise _mismatch(tuple(ids.shape), tuple(features["token_embeddings"].shape[:2]))
        seen = features.get("attention_mask")
        kept = torch.ones_like(ids, dtype=torch.bool) if seen is None else seen.bool()
        if task == "query" and features.get("query_expansion_positions") is not None:
            kept = kept | features["query_expansion_positions"].bool()
        wanted = self._wanted(ids, task)
        features["attention_mask"] = kept if wanted is None else kept & wanted
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config; there are no weights."""
        self.save_config(output_path)

    def _wanted(self, ids: Tensor, task: str | None) -> Tensor | None:
        """Which of the token ids take part: bool of the shape of ``ids``; None for all."""
        wanted = None
        if len(self._skipped) and (task or "document") in self.skiplist_tasks:
            wanted = ~torch.isin(ids, self._skipped.to(ids.device))
        if self.keep_only_token_ids and task != "query":
            listed = torch.isin(ids, torch.tensor(self.keep_only_token_ids, device=ids.device))
            wanted = listed if wanted is None else wanted & listed
        return wanted

    def _keep_packed(self, features: Features, task: str | None) -> Features:
        tokens: TokenIds | None = features.get("tokens")
        embeddings: Packed = features["token_embeddings"]
        if tokens is None:
            return features
        if tokens.lengths != embeddings.lengths:
            raise _mismatch(tokens.lengths, embeddings.lengths)
        kept = self._wanted(tokens.ids, task)
        if task != "query" and tokens.visible is not None:
            seen = _visible(tokens)
            kept = seen if kept is None else kept & seen
        if kept is not None:
            left = _only(tokens, kept)
            features["tokens"] = left
            features["token_embeddings"] = Packed(embeddings.values[kept], left.lengths)
        return features


def _ids_of(words: Sequence[str], tokenizer: Any) -> list[int]:
    """The ids of words that are one token; warns of the others."""
    unknown = tokenizer.unk_token_id
    found = dict(zip(words, tokenizer.convert_tokens_to_ids(list(words)), strict=True))
    known = {
        word: at for word, at in found.items() if at is not None and (at != unknown or word == tokenizer.unk_token)
    }
    dropped = [word for word in found if word not in known]
    if dropped:
        logger.warning(
            "The skiplist words %s are not single tokens of this vocabulary. They are dropped from the skiplist: as "
            "unknown tokens they would take all unknown tokens of documents with them.",
            dropped,
        )
    return list(known.values())


def _visible(tokens: TokenIds) -> Tensor:
    """(N,) bool: the tokens that others look at."""
    visible = torch.tensor(tokens.visible, device=tokens.ids.device)
    lengths = torch.tensor(tokens.lengths, device=tokens.ids.device)
    return tokens.positions() < visible.repeat_interleave(lengths)


def _only(tokens: TokenIds, kept: Tensor) -> TokenIds:
    """The tokens where ``kept``, (N,) bool, is true."""
    before = [0, *kept.cumsum(0).tolist()]  # how many of the first 0, 1, ... tokens are kept
    ends = list(accumulate(tokens.lengths, initial=0))
    lengths = tuple(before[stop] - before[start] for start, stop in zip(ends, ends[1:], strict=False))
    visible = None
    if tokens.visible is not None:
        starts = zip(ends, tokens.visible, strict=False)
        visible = tuple(before[start + count] - before[start] for start, count in starts)
    types = None if tokens.type_ids is None else tokens.type_ids[kept]
    return TokenIds(tokens.ids[kept], lengths, types, visible)


def _mismatch(ids: tuple[int, ...], embeddings: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"MultiVectorMask needs one id for each token embedding; got ids of lengths {ids} and embeddings of lengths "
        f"{embeddings}. Put it before modules that pool tokens."
    )
