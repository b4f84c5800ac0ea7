"""Texts and text pairs to token ids: one call for all texts, no padding, truncation counted.

The Rust tokenizer is never reconfigured after construction (padding and truncation are done here), so any number of
threads may use one ``TextProcessor`` at once. A text that stands in many pairs is tokenised once. Knows nothing of
models.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from sentence_transformers.errors import one_of

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Text = str | Sequence[str]  # one text, or a pair of texts
PairTruncation = Literal["longest_first", "only_first", "only_second"]

PAIR_TRUNCATIONS: tuple[PairTruncation, ...] = ("longest_first", "only_first", "only_second")

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
    """Token ids of n inputs without padding: input i has ``ids[starts[i]:starts[i + 1]]``.

    ids: (N,). starts: (n + 1,). types: (N,) segment numbers, or None when they are all 0.
    visible: (n,) how many tokens of each input the others look at (see ``TokenIds``), or None for all.
    added: (N,) which tokens expand a query and stand for none of its text, or None for no token.
    """

    ids: Ints
    starts: Ints
    types: Ints | None
    cut: Sequence[int]  # the inputs that were longer than ``limit``
    limit: int | None
    visible: Ints | None = None
    added: Bools | None = None

    @property
    def truncated(self) -> int:
        """How many inputs were longer than ``limit``."""
        return len(self.cut)

    @cached_property
    def sizes(self) -> Ints:
        return np.diff(self.starts)


class _Ragged(NamedTuple):
    """Token ids of m texts: text i has ``ids[starts[i]:starts[i + 1]]``."""

    ids: Ints
    starts: Ints


class TextProcessor:
    """A tokenizer with its limits.

    Args:
        tokenizer: a Rust tokenizer of which nobody else has this object; its padding and truncation are switched off.
        limit: the most tokens of one input, special tokens included; None for no limit.
        truncation_side: which end of a too long input is dropped.
        padding_side, padding_id: for padded tensors (see ``token_tensors.pad``).
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

    def __call__(
        self, texts: Sequence[Text], limit: int | None = None, truncation: PairTruncation = "longest_first"
    ) -> TokenTable:
        """Tokenise texts and pairs of texts.

        Args:
            texts: n inputs, each a string or a sequence of two strings.
            limit: overrides the processor's own limit.
            truncation: which text of a too long pair is cut; a text alone is always cut. "longest_first" is explained
                at ``longest_first``. "only_first" keeps the second text whole, "only_second" the first; where that
                leaves no room for one token of the other, this pair is cut as by "longest_first".

        Raises: ValueError if the limit leaves no room beside the special tokens, or for another ``truncation``.
        """
        one_of("truncation", truncation, PAIR_TRUNCATIONS)
        limit = self.limit if limit is None else limit
        single = [i for i, text in enumerate(texts) if isinstance(text, str)]
        if len(single) == len(texts):
            return self._singles(texts, limit)  # type: ignore[arg-type]
        pair = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        pairs = self._pairs([texts[i] for i in pair], limit, truncation)
        if not single:
            return pairs
        return _merged(self._singles([texts[i] for i in single], limit), single, pairs, pair)  # type: ignore[misc]

    def _singles(self, texts: Sequence[str], limit: int | None) -> TokenTable:
        template = self.single
        self._room(template, limit)
        rows = self._encode([self._shorten(text, limit) for text in texts], special=True)
        cut: list[int] = []
        if limit is not None:
            cut = np.flatnonzero(np.diff(rows.starts) > limit).tolist()
            rows = self._cut(rows, limit) if cut else rows
        types = None
        if self.with_types and template.has_types:  # XLNet's classifier token is a segment of its own
            sizes = np.ones((len(texts), template.size + 1), dtype=np.int64)
            sizes[:, len(template.before)] = np.diff(rows.starts) - template.size
            types = np.repeat(np.tile(np.array(template.types_of(1), dtype=np.int64), len(texts)), sizes.ravel())
        return TokenTable(rows.ids, rows.starts, types, cut, limit)

    def _cut(self, rows: _Ragged, limit: int) -> _Ragged:
        """Drop content of all longer rows until ``limit`` tokens are left; the special tokens at both ends stay."""
        kept = np.minimum(np.diff(rows.starts), limit)
        if self.truncation_side == "left":
            front = np.minimum(len(self.single.before), kept)
        else:
            front = kept - np.minimum(len(self.single.after), kept)
        back = kept - front
        begins = np.stack([rows.starts[:-1], rows.starts[1:] - back], axis=1)
        return _Ragged(rows.ids[spans(begins.ravel(), np.stack([front, back], axis=1).ravel())], starts_of(kept))

    def _pairs(self, pairs: Sequence[Sequence[str]], limit: int | None, truncation: PairTruncation) -> TokenTable:
        template = self.pair
        room = self._room(template, limit)
        places: dict[str, int] = {}  # every different text, and where it stands among them
        found = [places.setdefault(text, len(places)) for first, second in pairs for text in (first, second)]
        texts = self._encode([self._shorten(text, limit) for text in places], special=False)
        which = np.array(found, dtype=np.int64).reshape(-1, 2)
        begins, sizes = texts.starts[which], np.diff(texts.starts)[which]  # (n, 2)
        cut: list[int] = []
        if room is not None:
            cut = np.flatnonzero(sizes.sum(axis=1) > room).tolist()
            kept = np.stack(kept_of_pairs(sizes[:, 0], sizes[:, 1], room, truncation), axis=1)
            begins = begins + sizes - kept if self.truncation_side == "left" else begins
            sizes = kept
        ids, starts, types = _spliced(template, texts.ids, begins, sizes, self.with_types)
        return TokenTable(ids, starts, types, cut, limit)

    def _room(self, template: Template, limit: int | None) -> int | None:
        if limit is None:
            return None
        if limit < template.size:
            raise ValueError(
                f"max_seq_length must leave room for the {template.size} special tokens of this tokenizer; got {limit}."
            )
        return limit - template.size

    def _encode(self, texts: list[str], special: bool) -> _Ragged:
        try:
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=special)
        except (UnicodeEncodeError, TypeError):  # a lone surrogate is not a character; UTF-8 has no bytes for it
            clean = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
            encodings = self.tokenizer.encode_batch_fast(clean, add_special_tokens=special)
        flat = array("I")  # C unsigned int, as the tokenizer has them
        for encoding in encodings:
            flat.fromlist(encoding.ids)
        sizes = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
        return _Ragged(np.array(flat, dtype=np.int64), starts_of(sizes))

    def encode_bare(self, texts: Sequence[str]) -> list[Ints]:
        """The ids of every text, without special tokens and whole."""
        rows = self._encode(list(texts), special=False)
        return np.split(rows.ids, rows.starts[1:-1]) if len(texts) else []

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
            if len(self._encode([piece], special=False).ids) >= limit + _MARGIN:
                return piece
            size *= 4
        return text


def starts_of(sizes: Ints) -> Ints:
    """Where rows of these sizes start when they stand one behind the other; one more number, the end of the last."""
    starts = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts


def spans(begins: Ints, lengths: Ints) -> Ints:
    """The places ``begin, begin + 1, ...`` of every span, one behind the other.

    Args:
        begins, lengths: (m,).

    Returns: (sum of lengths,).
    """
    firsts = starts_of(lengths)
    return np.arange(firsts[-1], dtype=np.int64) + np.repeat(begins - firsts[:-1], lengths)


def _spliced(
    template: Template, ids: Ints, begins: Ints, sizes: Ints, with_types: bool
) -> tuple[Ints, Ints, Ints | None]:
    """Pairs with the special tokens of ``template`` around their texts.

    Args:
        ids: (M,), where the tokens of all texts stand.
        begins, sizes: (n, 2), the tokens of both texts of every pair.

    Returns: ids (N,), starts (n + 1,) and perhaps segment numbers (N,) of the pairs.
    """
    special = [*template.before, *template.between, *template.after]
    source = np.concatenate([np.array(special, dtype=np.int64), ids])
    first = len(template.before)
    second = first + 1 + len(template.between)
    places = list(range(len(special)))  # in ``source``
    # (n, pieces): where each piece of a pair stands in ``source``, a special token alone or a whole text; its size
    begin = np.empty((len(begins), len(special) + 2), dtype=np.int64)
    begin[:] = [*places[:first], 0, *places[first : second - 1], 0, *places[second - 1 :]]
    begin[:, first], begin[:, second] = begins.T + len(special)
    size = np.ones_like(begin)
    size[:, first], size[:, second] = sizes.T
    types = None
    if with_types:
        types = np.repeat(np.tile(np.array(template.types_of(1, 1), dtype=np.int64), len(begins)), size.ravel())
    return source[spans(begin.ravel(), size.ravel())], starts_of(size.sum(axis=1)), types


def _merged(left: TokenTable, left_places: list[int], right: TokenTable, right_places: list[int]) -> TokenTable:
    """The inputs of two tables of one limit, each in its place among all."""
    places = np.array(left_places + right_places)
    order = np.argsort(places)
    sizes = np.concatenate([left.sizes, right.sizes])
    index = spans(starts_of(sizes)[order], sizes[order])
    types = None
    if left.types is not None or right.types is not None:
        types = np.concatenate([_types_or_zero(left), _types_or_zero(right)])[index]
    cut = sorted([*(left_places[i] for i in left.cut), *(right_places[i] for i in right.cut)])
    return TokenTable(np.concatenate([left.ids, right.ids])[index], starts_of(sizes[order]), types, cut, left.limit)


def _types_or_zero(table: TokenTable) -> Ints:
    return np.zeros_like(table.ids) if table.types is None else table.types


def longest_first(first: Ints, second: Ints, room: int) -> tuple[Ints, Ints]:
    """How many tokens of each text of a pair are kept when ``room`` is too small for both; for many pairs at once.

    The longer one is shortened until both are equal, then both alike; the odd token goes to the one that was longer.

    Args:
        first, second: (n,) numbers of tokens.

    Returns: two (n,).
    """
    short, long = np.minimum(first, second), np.maximum(first, second)
    long = np.where(short + long > room, np.maximum(short, room - short), long)
    both = short + long > room
    short, long = np.where(both, room // 2, short), np.where(both, room - room // 2, long)
    ordered = first <= second
    return np.where(ordered, short, long), np.where(ordered, long, short)


def kept_of_pairs(first: Ints, second: Ints, room: int, truncation: PairTruncation) -> tuple[Ints, Ints]:
    """How many tokens of each text of a pair are kept (see ``TextProcessor.__call__``).

    Args:
        first, second: (n,) numbers of tokens.
        room: the most tokens of a pair without special tokens.

    Returns: two (n,).
    """
    one, two = longest_first(first, second, room)
    if truncation == "only_second":
        whole = first < room
        return np.where(whole, first, one), np.where(whole, np.minimum(second, room - first), two)
    if truncation == "only_first":
        whole = second < room
        return np.where(whole, np.minimum(first, room - second), one), np.where(whole, second, two)
    return one, two


def _one(types: list[int]) -> int:
    """The segment number that all tokens of a text share."""
    return types[0] if types else 0


def _find(whole: list[int], part: list[int]) -> int:
    """Where ``part`` starts within ``whole``."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            return start
    return 0
