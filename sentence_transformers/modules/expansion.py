"""Query expansion of ColBERT models: queries are filled up with one token, whose vectors then match softly.

Knows nothing of models: it changes token tables. Source: Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832,
section 3.2 ("query augmentation").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from sentence_transformers.errors import one_of, positive
from sentence_transformers.modules.processing import TokenTable, spans, starts_of
from sentence_transformers.modules.text_tokenizer import TextTokenizer
from sentence_transformers.modules.token_tensors import pad_rows

STRATEGIES = ("fixed", "min")


@dataclass(frozen=True)
class QueryExpansion:
    """How queries are filled up.

    strategy: "fixed" gives every query exactly ``length`` tokens, "min" at least so many.
    length: special tokens included.
    token_id: of the token that fills.
    attend: whether the other tokens look at those that were added. Where not, an added token still looks at the text.
    token: the name that the config gave; None for the mask token of the tokenizer, or else its end-of-text token.
    """

    strategy: Literal["fixed", "min"]
    length: int
    token_id: int
    attend: bool = False
    token: str | None = None

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        token_id: Callable[[str], int | None],
        fallbacks: Iterable[str | None],
        query_length: int | None = None,
    ) -> Self:
        """Make it of ``{"strategy": ..., "length": ..., "attend": False, "token": None}``; the last two may miss.

        Args:
            config: the value of ``query_expansion``.
            token_id: a tokenizer's ``token_to_id``: the id of a token, None for one it does not have.
            fallbacks: the tokens to take when the config names none, best first: mask token, end-of-text token; None
                for one that the tokenizer does not have.
            query_length: the most tokens of a query, where that is set.

        Raises: ValueError if the config is not of this form, if the token does not exist, or if ``query_length`` is
            smaller than ``length``.
        """
        if not isinstance(config, Mapping):
            raise ValueError(f"query_expansion must be a dict with the keys {', '.join(_KEYS)}; got {config!r}.")
        for name in config:
            one_of("A key of query_expansion", name, _KEYS)
        strategy = one_of("query_expansion['strategy']", config.get("strategy"), STRATEGIES)
        length = positive("query_expansion['length'], the number of tokens after expansion,", config.get("length"))
        attend, token = config.get("attend", False), config.get("token")
        if not isinstance(attend, bool):
            raise ValueError(f"query_expansion['attend'] must be True or False, got {attend!r}.")
        if query_length is not None and query_length < length:
            raise ValueError(
                f"query_length must be at least query_expansion['length'], which is {length}; got {query_length}. "
                "Raise the one, lower the other, or leave query_length out."
            )
        return cls(strategy, length, _id_of(token, token_id, fallbacks), attend, token)

    @classmethod
    def of(cls, config: Mapping[str, Any], text: TextTokenizer, query_length: int | None = None) -> Self:
        """``from_config`` with the tokens of this tokenizer: without a token in the config its mask token, or else its
        end-of-text token.
        """
        fallbacks = (text.special_token(name) for name in ("mask_token", "eos_token"))  # asked for only if needed
        return cls.from_config(config, text.token_id, fallbacks, query_length)

    def to_config(self) -> dict[str, Any]:
        """What ``from_config`` reads."""
        return {"strategy": self.strategy, "attend": self.attend, "token": self.token, "length": self.length}

    def limit(self, limit: int | None) -> int | None:
        """The most tokens that the text of a query may have, when all other settings say ``limit``.

        The processor cuts texts, before ``apply``: with "fixed" to ``length``, over which nothing else wins.
        """
        return self.length if self.strategy == "fixed" else limit

    def apply(self, table: TokenTable, side: Literal["left", "right"] = "right") -> TokenTable:
        """Fill up every query that has less than ``length`` tokens.

        Longer ones stay as they are: it is the processor that cuts them (see ``limit``). The new tokens stand behind
        the last token of the query, thus behind its closing special token, and are of segment 0. With ``attend`` and
        padding on the left they stand before the first one, as upstream fills the places of padding. (Without
        ``attend`` they stand behind on that side too, as tokens that nobody looks at come last in ``TokenIds``.)

        Args:
            table: n tokenised queries.
            side: where the tokenizer of the model pads.

        Returns: a table with ``added``, and with ``visible`` unless ``attend``.
        """
        sizes = np.maximum(table.sizes, self.length)
        starts = starts_of(sizes)
        begins = starts[1:] - table.sizes if self.attend and side == "left" else starts[:-1]
        own = spans(begins, table.sizes)  # where the tokens of ``table`` stand in the new one
        ids = np.full(starts[-1], self.token_id, dtype=np.int64)
        ids[own] = table.ids
        added = np.ones(len(ids), dtype=np.bool_)
        added[own] = False
        types = None
        if table.types is not None:
            types = np.zeros_like(ids)
            types[own] = table.types
        visible = None if self.attend else table.sizes
        return replace(table, ids=ids, starts=starts, types=types, visible=visible, added=added)


def expansion_positions(table: TokenTable, side: Literal["left", "right"] = "right") -> Tensor | None:
    """``features["query_expansion_positions"]`` of all inputs of a table as one padded batch.

    Args:
        table: n inputs.
        side: where the padding stands.

    Returns: (n, longest) bool, True for a token that was added (padding: False); None for a table that was not
        expanded.
    """
    if table.added is None:
        return None
    return pad_rows(torch.from_numpy(table.added), table.sizes.tolist(), False, side)


def _id_of(token: Any, token_id: Callable[[str], int | None], fallbacks: Iterable[str | None]) -> int:
    """The id of ``token``, or without one of the first fallback."""
    if token is not None and not isinstance(token, str):
        raise ValueError(f"query_expansion['token'] must be a token or None, got {token!r}.")
    chosen = next((name for name in fallbacks if name is not None), None) if token is None else token
    if chosen is None:
        raise ValueError(
            "query_expansion must name a 'token' for a tokenizer that has neither a mask token nor an end-of-text "
            "token; got None."
        )
    found = token_id(chosen)
    if found is None:
        raise ValueError(
            f"query_expansion['token'] must be a token of the vocabulary of this tokenizer, got {chosen!r}. "
            "Take its mask, padding or end-of-text token, whichever the model was trained with."
        )
    return found


_KEYS = tuple(field.name for field in fields(QueryExpansion) if field.name != "token_id")
