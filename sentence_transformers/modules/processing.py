"""Texts and text pairs to token ids: one call for all texts, no padding, truncation counted.

The Rust tokenizer is never reconfigured after construction (padding and truncation are done here), so any number of
threads may use one ``TextProcessor`` at once. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from sentence_transformers._types import Features
from sentence_transformers.ops.tokens import TokenIds

Ints = np.ndarray[Any, np.dtype[np.int64]]
Text = str | Sequence[str]  # one text, or a pair of texts

_MARGIN = 64  # tokens beyond the limit that a shortened text must still have; a cut changes only the last few


@dataclass(frozen=True)
class Template:
    """The special tokens around one text or a pair, and the segment numbers of all parts.

    types: of every token before; of the first text; of every token between; of the second text; of every token after.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def types_of(self, first: int, second: int = 0) -> list[int]:
        """Segment numbers of an input with so many tokens of its first and second text."""
        before, one, between, two, after = self.types
        return [*before, *[one] * first, *between, *[two] * second, *after]

    @property
    def has_types(self) -> bool:
        """Whether any segment number is not 0."""
        return any(self.types_of(1, 1))


@dataclass(frozen=True)
class TokenTable:
    """Token ids of n inputs without padding: input i has ``ids[starts[i]:starts[i + 1]]``."""

    ids: Ints
    starts: Ints
    types: Ints | None
    cut: Sequence[int]  # the inputs that were longer than ``limit``
    limit: int | None

    @property
    def truncated(self) -> int:
        """How many inputs were longer than ``limit``."""
        return len(self.cut)

    @cached_property
    def sizes(self) -> Ints:
        return np.diff(self.starts)

    def take(self, rows: Ints) -> TokenIds:
        """The ids of some inputs, in the given order, as one packed batch."""
        lengths = self.sizes[rows]
        ends = lengths.cumsum()
        # place j of the result comes from starts[row of j] + (j - first place of that row)
        index = np.repeat(self.starts[rows] - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
        types = None if self.types is None else torch.from_numpy(self.types[index])
        return TokenIds(torch.from_numpy(self.ids[index]), tuple(lengths.tolist()), types)


class _Rows(NamedTuple):
    """Ids and segment numbers (None: all 0) of some inputs, and which of them were cut."""

    ids: list[list[int]]
    types: list[list[int]] | None
    cut: list[int]


class TextProcessor:
    """A tokenizer with its limits.

    Args:
        tokenizer: a Rust tokenizer of which nobody else has this object; its padding and truncation are switched off.
        limit: the most tokens of one input, special tokens included; None for no limit.
        truncation_side: which end of a too long input is dropped.
        padding_side, padding_id: for the padded tensors of ``pad``.
        with_types: whether segment numbers (``token_type_ids``) are given.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        limit: int | None = None,
        truncation_side: Literal["left", "right"] = "right",
        padding_side: Literal["left", "right"] = "right",
        padding_id: int = 0,
        with_types: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.limit = limit
        self.truncation_side = truncation_side
        self.padding_side = padding_side
        self.padding_id = padding_id
        self.with_types = with_types

    @cached_property
    def single(self) -> Template:
        """What the tokenizer puts around one text."""
        whole, bare = self.tokenizer.encode("a"), self.tokenizer.encode("a", add_special_tokens=False)
        start = _find(whole.ids, bare.ids)
        stop = start + len(bare.ids)
        ids, types = whole.ids, whole.type_ids
        return Template(
            tuple(ids[:start]),
            (),
            tuple(ids[stop:]),
            (tuple(types[:start]), _one(types[start:stop]), (), 0, tuple(types[stop:])),
        )

    @cached_property
    def pair(self) -> Template:
        """What the tokenizer puts around and between two texts."""
        whole = self.tokenizer.encode("a", "b")
        owner = whole.sequence_ids  # None for a special token
        first = [i for i, who in enumerate(owner) if who == 0]
        second = [i for i, who in enumerate(owner) if who == 1]
        before, between, after = slice(first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, None)
        ids, types = whole.ids, whole.type_ids
        return Template(
            tuple(ids[before]),
            tuple(ids[between]),
            tuple(ids[after]),
            (tuple(types[before]), types[first[0]], tuple(types[between]), types[second[0]], tuple(types[after])),
        )

    def prompt_length(self, prompt: str) -> int:
        """How many tokens a prompt alone takes at the start of an input, the leading special tokens included."""
        count = len(self.tokenizer.encode(prompt).ids)
        return count - 1 if self.single.after else count

    def __call__(self, texts: Sequence[Text], limit: int | None = None) -> TokenTable:
        """Tokenise texts and pairs of texts.

        Args:
            texts: n inputs, each a string or a sequence of two strings.
            limit: overrides the processor's own limit.

        Raises: ValueError if the limit leaves no room beside the special tokens.
        """
        limit = self.limit if limit is None else limit
        single = [i for i, text in enumerate(texts) if isinstance(text, str)]
        if len(single) == len(texts):
            return self._table(self._singles(texts, limit), limit)  # type: ignore[arg-type]
        pairs = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        rows = self._pairs([texts[i] for i in pairs], limit)
        if single:
            alone = self._singles([texts[i] for i in single], limit)  # type: ignore[misc]
            rows = _merged(rows, pairs, alone, single)
        return self._table(rows, limit)

    def _singles(self, texts: Sequence[str], limit: int | None) -> _Rows:
        template = self.single
        self._room(template, limit)
        rows = self._encode([self._shorten(text, limit) for text in texts], special=True)
        cut = [] if limit is None else [i for i, ids in enumerate(rows) if len(ids) > limit]
        for i in cut:
            rows[i] = self._cut(rows[i], len(template.before), len(template.after), limit or 0)
        types = None
        if template.has_types:  # XLNet's classifier token is a segment of its own
            types = [template.types_of(len(ids) - template.size) for ids in rows]
        return _Rows(rows, types, cut)

    def _cut(self, ids: list[int], head: int, tail: int, limit: int) -> list[int]:
        """Drop content until ``limit`` tokens are left; ``head`` and ``tail`` special tokens stay."""
        if self.truncation_side == "left":
            return ids[:head] + ids[len(ids) - (limit - head) :]
        return ids[: limit - tail] + ids[len(ids) - tail :]

    def _pairs(self, texts: Sequence[Text], limit: int | None) -> _Rows:
        template = self.pair
        room = self._room(template, limit)
        flat = [self._shorten(text, limit) for pair in texts for text in pair]
        contents = self._encode(flat, special=False)
        rows: list[list[int]] = []
        types: list[list[int]] = []
        cut: list[int] = []
        for first, second in zip(contents[::2], contents[1::2], strict=True):
            if room is not None and len(first) + len(second) > room:
                cut.append(len(rows))
                keep_first, keep_second = longest_first(len(first), len(second), room)
                first, second = self._keep(first, keep_first), self._keep(second, keep_second)
            rows.append([*template.before, *first, *template.between, *second, *template.after])
            types.append(template.types_of(len(first), len(second)))
        return _Rows(rows, types, cut)

    def _keep(self, ids: list[int], count: int) -> list[int]:
        return ids[len(ids) - count :] if self.truncation_side == "left" else ids[:count]

    def _room(self, template: Template, limit: int | None) -> int | None:
        if limit is None:
            return None
        if limit < template.size:
            raise ValueError(
                f"max_seq_length must leave room for the {template.size} special tokens of this tokenizer; got {limit}."
            )
        return limit - template.size

    def _encode(self, texts: list[str], special: bool) -> list[list[int]]:
        try:
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=special)
        except (UnicodeEncodeError, TypeError):  # a lone surrogate is not a character; UTF-8 has no bytes for it
            clean = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
            encodings = self.tokenizer.encode_batch_fast(clean, add_special_tokens=special)
        return [encoding.ids for encoding in encodings]

    def _shorten(self, text: str, limit: int | None) -> str:
        """A prefix of a giant text that surely holds its first ``limit`` tokens, cut at white space if there is any.

        Time and memory then depend on the limit, not on how long a text somebody sends.
        """
        if limit is None or self.truncation_side == "left" or len(text) <= 64 * limit + 4096:
            return text
        size = 16 * limit + 4096
        while size < len(text):
            stop = max(text.rfind(" ", size - 1024, size), text.rfind("\n", size - 1024, size))
            piece = text[: stop if stop > 0 else size]
            if len(self._encode([piece], special=False)[0]) >= limit + _MARGIN:
                return piece
            size *= 4
        return text

    def _table(self, rows: _Rows, limit: int | None) -> TokenTable:
        starts = np.zeros(len(rows.ids) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows.ids], out=starts[1:])
        total = int(starts[-1])
        flat = np.fromiter(chain.from_iterable(rows.ids), dtype=np.int64, count=total)
        kinds = None
        if rows.types is not None and self.with_types:
            kinds = np.fromiter(chain.from_iterable(rows.types), dtype=np.int64, count=total)
        return TokenTable(flat, starts, kinds, rows.cut, limit)

    def pad(self, tokens: TokenIds) -> Features:
        """The public padded form: ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, (B, T) int64."""
        features: Features = {"input_ids": self._padded(tokens, tokens.ids, self.padding_id)}
        if self.with_types:
            types = torch.zeros_like(tokens.ids) if tokens.type_ids is None else tokens.type_ids
            features["token_type_ids"] = self._padded(tokens, types, 0)
        features["attention_mask"] = self._padded(tokens, torch.ones_like(tokens.ids), 0)
        return features

    def _padded(self, tokens: TokenIds, values: Tensor, fill: int) -> Tensor:
        return pad_rows(values, tokens.lengths, fill, self.padding_side)


def pad_rows(values: Tensor, lengths: Sequence[int], fill: int, side: str = "right") -> Tensor:
    """(N,) values of B rows one behind the other -> (B, longest) with ``fill`` on the given side."""
    width = max(lengths, default=0)
    out = values.new_full((len(lengths), width), fill)
    for row, part in zip(out, torch.split(values, list(lengths)), strict=True):
        if side == "left":
            row[width - len(part) :] = part
        else:
            row[: len(part)] = part
    return out


def _merged(left: _Rows, left_places: list[int], right: _Rows, right_places: list[int]) -> _Rows:
    """Rows of two kinds, each in its place among all."""
    count = len(left_places) + len(right_places)
    ids: list[list[int]] = [[]] * count
    types: list[list[int]] = [[]] * count
    cut: list[int] = []
    for rows, places in ((left, left_places), (right, right_places)):
        cut += [places[i] for i in rows.cut]
        for i, place in enumerate(places):
            ids[place] = rows.ids[i]
            types[place] = [0] * len(rows.ids[i]) if rows.types is None else rows.types[i]
    return _Rows(ids, types, sorted(cut))


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text of a pair are kept when ``room`` is too small for both.

    The longer one is shortened until both are equal, then both alike; the odd token goes to the one that was longer.
    """
    short, long = min(first, second), max(first, second)
    if short + long > room:
        long = max(short, room - short)
        if short + long > room:
            short = room // 2
            long = room - short
    return (short, long) if first <= second else (long, short)


def _one(types: list[int]) -> int:
    """The segment number that all tokens of a text share."""
    return types[0] if types else 0


def _find(whole: list[int], part: list[int]) -> int:
    """Where ``part`` starts within ``whole``."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            return start
    return 0
