"""Texts to token ids: the tokenizers library itself is the yardstick, for every kind of tokenizer and any text."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
import texts
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from sentence_transformers.modules.processing import (
    PAIR_TRUNCATIONS,
    TextProcessor,
    TokenTable,
    kept_of_pairs,
    longest_first,
    spans,
    starts_of,
)
from sentence_transformers.modules.token_tensors import pad, pad_rows, take
from sentence_transformers.ops.tokens import TokenIds

_LINE = "the cat sat on the mat and the dog sat by the door lake sea water river high mountains x7 #tag (q)"
WORDS = _LINE.split()
KINDS = ["bert", "roberta", "xlm-roberta", "qwen3", "llama", "gpt2", "t5"]  # before and after; before; after; neither


@cache
def rust(kind: str) -> Tokenizer:
    return tiny.FAMILIES[kind].tokenizer()


def fresh(kind: str) -> Tokenizer:
    """A tokenizer that the caller may change."""
    return Tokenizer.from_str(rust(kind).to_str())


def processor(kind: str, limit: int | None = None, side: Any = "right", with_types: bool = True) -> TextProcessor:
    return TextProcessor(fresh(kind), limit, truncation_side=side, with_types=with_types)


def rows_of(table: Any) -> list[list[int]]:
    return [table.ids[start:stop].tolist() for start, stop in zip(table.starts[:-1], table.starts[1:], strict=True)]


def types_of(table: Any) -> list[list[int]]:
    return [table.types[start:stop].tolist() for start, stop in zip(table.starts[:-1], table.starts[1:], strict=True)]


def some_text(seed: random.Random, words: int) -> str:
    return " ".join(seed.choice(WORDS) for _ in range(words))


# --- as the tokenizers library does it --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_ids_without_a_limit(kind: str) -> None:
    inputs = [text for text in texts.VARIED if len(text) < 5000]
    assert rows_of(processor(kind)(inputs)) == [encoding.ids for encoding in rust(kind).encode_batch(inputs)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_texts(kind: str, side: str) -> None:
    seed = random.Random(3)
    inputs = [some_text(seed, seed.randrange(0, 30)) for _ in range(60)]
    whole = [len(encoding.ids) for encoding in rust(kind).encode_batch(inputs)]
    for limit in (3, 4, 7, 16, 33):
        theirs = fresh(kind)
        theirs.enable_truncation(limit, direction=side)
        table = processor(kind, limit, side)(inputs)
        assert rows_of(table) == [encoding.ids for encoding in theirs.encode_batch(inputs)]
        assert (table.truncated, table.limit) == (sum(count > limit for count in whole), limit)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_pairs(kind: str, side: str) -> None:
    seed = random.Random(5)
    pairs = [(some_text(seed, seed.randrange(0, 12)), some_text(seed, seed.randrange(0, 12))) for _ in range(150)]
    whole = [len(encoding.ids) for encoding in rust(kind).encode_batch(pairs)]
    for limit in (5, 8, 11, 16):
        theirs = fresh(kind)
        theirs.enable_truncation(limit, strategy="longest_first", direction=side)
        wanted = theirs.encode_batch(pairs)
        table = processor(kind, limit, side)(pairs)
        assert rows_of(table) == [encoding.ids for encoding in wanted]
        assert types_of(table) == [encoding.type_ids for encoding in wanted]
        assert table.truncated == sum(count > limit for count in whole)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 50), st.sampled_from(["right", "left"]))
def test_longest_first_keeps_as_many_as_the_library(first: int, second: int, room: int, side: Any) -> None:
    """One word is one token here, so that the lengths are those asked for."""
    pair = ("x " * first, "x " * second)
    theirs = fresh("bert")
    theirs.enable_truncation(room + 3, strategy="longest_first", direction=side)
    table = processor("bert", room + 3, side)([pair])
    assert rows_of(table) == [theirs.encode(*pair).ids]
    assert types_of(table) == [theirs.encode(*pair).type_ids]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_longest_first_takes_from_the_longer_one(first: int, second: int, room: int) -> None:
    one, two = (int(kept[0]) for kept in longest_first(np.array([first]), np.array([second]), room))
    assert 0 <= one <= first
    assert 0 <= two <= second
    assert one + two == min(room, first + second)
    if one < first and two < second:
        assert abs(one - two) <= 1
    elif one < first:
        assert one >= two - 1
    elif two < second:
        assert two >= one - 1


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.integers(3, 30), st.sampled_from(["right", "left"]))
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_any_text(kind: str, inputs: list[str], limit: int, side: Any) -> None:
    theirs = fresh(kind)
    theirs.enable_truncation(limit, direction=side)
    assert rows_of(processor(kind, limit, side)(inputs)) == [e.ids for e in theirs.encode_batch(inputs)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=3), st.integers(5, 30))
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_any_pair(kind: str, inputs: list[tuple[str, str]], limit: int) -> None:
    theirs = fresh(kind)
    theirs.enable_truncation(limit, strategy="longest_first")
    wanted = theirs.encode_batch(inputs)
    table = processor(kind, limit)(inputs)
    assert rows_of(table) == [encoding.ids for encoding in wanted]
    assert types_of(table) == [encoding.type_ids for encoding in wanted]


def test_pairs_that_share_texts_are_as_each_alone() -> None:
    """A reranker sends the same query with many passages; each different text is tokenised once."""
    seed = random.Random(13)
    queries, passages = ([some_text(seed, seed.randrange(0, 20)) for _ in range(count)] for count in (4, 9))
    pairs = [(seed.choice(queries + passages), seed.choice(passages)) for _ in range(80)]
    for side in ("left", "right"):
        found = processor("bert", 16, side)
        table = found(pairs)
        assert rows_of(table) == [rows_of(found([pair]))[0] for pair in pairs]
        assert types_of(table) == [types_of(found([pair]))[0] for pair in pairs]


def test_a_text_is_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = processor("bert", 16)
    encode, seen = found._encode, list[str]()

    def watched(texts: list[str], special: bool) -> Any:
        seen.extend(texts)
        return encode(texts, special)

    monkeypatch.setattr(found, "_encode", watched)
    found([("a", "b"), ("a", "c"), ("b", "a"), ("a", "b")])
    assert seen == ["a", "b", "c"]


def test_pairs_of_a_tokenizer_without_special_tokens() -> None:
    found = processor("gpt2", 8)
    table = found([("the cat", "the dog"), ("", ""), ("the cat", "")])
    assert rows_of(table) == [
        encoding.ids for encoding in rust("gpt2").encode_batch([("the cat", "the dog"), ("", ""), ("the cat", "")])
    ]


def test_segments_that_a_template_gives_to_special_tokens() -> None:
    """XLNet: the classifier token comes last and is a segment of its own."""
    tokenizer = fresh("xlm-roberta")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 </s>:0 <s>:2", pair="$A:0 </s>:0 $B:1 </s>:1 <s>:2", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    found = TextProcessor(Tokenizer.from_str(tokenizer.to_str()), with_types=True)
    for inputs in (["a cat", "", "x"], [("a cat", "the dog"), ("", "x"), ("x", "")]):
        table, wanted = found(inputs), tokenizer.encode_batch(inputs)
        assert rows_of(table) == [encoding.ids for encoding in wanted]
        assert types_of(table) == [encoding.type_ids for encoding in wanted]


def test_texts_without_segments_have_no_type_ids() -> None:
    assert processor("bert")(["a cat"]).types is None
    assert processor("bert", with_types=False)([("a", "b")]).types is None


# --- which text of a pair is cut --------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 40), st.sampled_from(["right", "left"]))
@pytest.mark.parametrize("truncation", ["only_first", "only_second"])
def test_cutting_one_text_keeps_as_many_as_the_library(
    truncation: Any, first: int, second: int, room: int, side: Any
) -> None:
    """The library fails where the text that is cut would have no token left; there, longest_first is used."""
    pair = ("x " * first, "y " * second)
    theirs = fresh("bert")
    whole = first if truncation == "only_second" else second
    policy = truncation if whole < room or first + second <= room else "longest_first"
    theirs.enable_truncation(room + 3, strategy=policy, direction=side)
    table = processor("bert", room + 3, side)([pair], truncation=truncation)
    assert rows_of(table) == [theirs.encode(*pair).ids]
    assert types_of(table) == [theirs.encode(*pair).type_ids]
    assert table.truncated == (first + second > room)


@pytest.mark.parametrize(
    ("truncation", "sizes", "kept"),
    [
        ("longest_first", (4, 20), (4, 6)),
        ("longest_first", (20, 20), (5, 5)),
        ("longest_first", (3, 4), (3, 4)),
        ("only_second", (8, 20), (8, 2)),
        ("only_second", (9, 20), (9, 1)),
        ("only_second", (10, 20), (5, 5)),  # no room for one token of the second
        ("only_second", (20, 3), (7, 3)),
        ("only_second", (10, 0), (10, 0)),
        ("only_second", (2, 5), (2, 5)),
        ("only_first", (20, 8), (2, 8)),
        ("only_first", (20, 9), (1, 9)),
        ("only_first", (20, 10), (5, 5)),
        ("only_first", (3, 20), (3, 7)),
        ("only_first", (0, 10), (0, 10)),
    ],
)
def test_what_is_kept_of_a_pair(truncation: Any, sizes: tuple[int, int], kept: tuple[int, int]) -> None:
    """Ten tokens of room."""
    one, two = kept_of_pairs(np.array([sizes[0]]), np.array([sizes[1]]), 10, truncation)
    assert (one.tolist(), two.tolist()) == ([kept[0]], [kept[1]])


def test_pairs_of_one_call_are_cut_each_by_its_own_lengths() -> None:
    pairs = [("x " * a, "y " * b) for a in range(0, 14, 3) for b in range(0, 14, 3)]
    found = processor("bert", 11)
    for truncation in PAIR_TRUNCATIONS:
        table = found(pairs, truncation=truncation)
        assert rows_of(table) == [rows_of(found([pair], truncation=truncation))[0] for pair in pairs]
        assert list(table.cut) == [i for i, (a, b) in enumerate(pairs) if (len(a) + len(b)) // 2 > 8]


@pytest.mark.parametrize("truncation", ["only_first", "only_second"])
def test_a_text_alone_is_cut_whatever_is_said_of_pairs(truncation: Any) -> None:
    found = processor("bert", 6)
    inputs = ["x " * 20, ("x x", "y " * 20), "x"]
    table = found(inputs, truncation=truncation)
    assert (table.sizes.tolist(), list(table.cut)) == ([6, 6, 3], [0, 1])
    assert rows_of(table)[0] == rows_of(found(inputs))[0]


def test_a_pair_cut_at_the_left() -> None:
    found = processor("bert", 9, "left")
    ids = dict(zip("abcdefgh", rows_of(found(["a b c d e f g h"], limit=99))[0][1:-1], strict=True))
    rows = rows_of(found([("a b", "c d e f g h")], truncation="only_second"))
    assert rows == [[2, ids["a"], ids["b"], 3, *(ids[letter] for letter in "efgh"), 3]]


def test_a_truncation_that_does_not_exist() -> None:
    wanted = "truncation must be one of 'longest_first', 'only_first', 'only_second'; got 'only_secnd'.*'only_second'"
    with pytest.raises(ValueError, match=wanted):
        processor("bert")(["a cat"], truncation="only_secnd")  # type: ignore[arg-type]


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "least"), [(["a cat"], 2), ([("a", "b")], 3)])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_limit_that_leaves_room_for_the_special_tokens_alone(inputs: Any, least: int, side: Any) -> None:
    found = processor("bert", least, side)
    ids = {"[CLS]": 2, "[SEP]": 3}
    assert rows_of(found(inputs)) == [[ids["[CLS]"]] + [ids["[SEP]"]] * (least - 1)]
    with pytest.raises(ValueError, match=f"must leave room for the {least} special tokens.*got {least - 1}"):
        found(inputs, limit=least - 1)


def test_a_limit_too_small_for_special_tokens_is_told_even_without_texts_that_need_it() -> None:
    with pytest.raises(ValueError, match="special tokens"):
        processor("bert", 1)([""])


def test_the_limit_of_a_call_wins() -> None:
    found = processor("bert", 10)
    assert len(found(["x " * 50], limit=5).ids) == 5
    assert len(found(["x " * 50]).ids) == 10


def test_nothing_gives_an_empty_table() -> None:
    table = processor("bert", 10)([])
    assert (len(table.ids), table.starts.tolist(), table.truncated, len(table.sizes)) == (0, [0], 0, 0)
    assert take(table, np.array([], dtype=np.int64)).lengths == ()


def test_the_tokenizers_own_padding_and_truncation_are_switched_off() -> None:
    tokenizer = fresh("bert")
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=30)
    assert len(TextProcessor(tokenizer)(["x " * 20]).ids) == 22


# --- texts that are no sentences --------------------------------------------------------------------------------------

STRANGE = [
    "", " ", "\x00", "a\x00b", "\x00" * 100, "😀", "👩‍👩‍👧‍👦", "🇳🇱" * 10, "\u202eright to left\u202c",
    "أين أقرب محطة قطار؟", "שלום world",
    "\ufeffbom", "a\ufeffb", "\u200b\u200d", "e\u0301" * 50, "\U0010ffff", "\ue000", "ﬁ½㎏", "\r\n\t\x0b\x0c",
    "\x7f\x1b[0m", "İ", "ß", "ǅ",
    "x" * 99, "x" * 100, "x" * 101, "．。！", "a" + "\u0300" * 500, "[CLS] [SEP]", "</s><s>",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_strange_texts(kind: str) -> None:
    assert rows_of(processor(kind)(STRANGE)) == [encoding.ids for encoding in rust(kind).encode_batch(STRANGE)]


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("\ud800", "\ufffd"),
        ("a \udc80 b", "a \ufffd b"),
        ("\ud800\ud800", "\ufffd\ufffd"),
        ("\ud83d\ude00", "😀"),  # two halves of a pair, as JSON of other programs may hold them
        ("\ufeffx \udfff", "\ufeffx \ufffd"),
    ],
)
def test_a_lone_surrogate_is_an_unknown_character(kind: str, broken: str, whole: str) -> None:
    others = ["a cat", "😀 שלום", "\ufeffbom"]
    found = processor(kind)
    assert rows_of(found([*others, broken])) == rows_of(found([*others, whole]))
    assert rows_of(found([(broken, "x"), ("y", "z")])) == rows_of(found([(whole, "x"), ("y", "z")]))


def test_a_giant_with_a_lone_surrogate() -> None:
    found = processor("bert", 16)
    assert rows_of(found(["cat \udc80 " * 10_000])) == rows_of(found(["cat \ufffd " * 20]))


def test_strings_of_numpy_are_strings() -> None:
    inputs = list(np.array(["a cat", "the dog"]))
    assert rows_of(processor("bert")(inputs)) == rows_of(processor("bert")(["a cat", "the dog"]))


# --- giants -----------------------------------------------------------------------------------------------------------


def _letters(seed: int, count: int, alphabet: str = "abcdefghijklmnopqrstuvwxyz") -> str:
    chosen = random.Random(seed)
    return "".join(chosen.choice(alphabet) for _ in range(count))


GIANTS: dict[str, Callable[[], str]] = {
    "one letter": lambda: "x" * 30_000,
    "another letter": lambda: "a" * 30_001,
    "two letters": lambda: "ab" * 15_000,
    "three letters": lambda: "the" * 10_000,
    "short words": lambda: "a b " * 8_000,
    "words": lambda: "the cat sat on the mat " * 1_400,
    "random letters": lambda: _letters(1, 30_000),
    "random words": lambda: some_text(random.Random(2), 7_000),
    "digits": lambda: _letters(3, 30_000, "0123456789"),
    "blanks": lambda: " " * 30_000,
    "blanks, then a word": lambda: " " * 30_000 + "cat",
    "a word, then blanks": lambda: "cat" + " \n" * 15_000,
    "lines": lambda: "cat\n" * 8_000,
    "Chinese": lambda: _letters(4, 30_000, "東京離这里最近"),
    "emoji": lambda: "😀" * 30_000,
    "accents": lambda: "a" + "\u0301" * 30_000,
    "decomposed": lambda: "e\u0301" * 15_000,
    "NUL": lambda: "\x00" * 30_000,
    "punctuation": lambda: "?!.," * 8_000,
    "special tokens": lambda: "[SEP]</s>" * 4_000,
    "a long word among short ones": lambda: "cat " * 1_500 + "x" * 20_000 + " dog" * 1_000,
    "words further apart than the cut looks back": lambda: ("x" * 1_500 + " cat ") * 20,
    "right to left": lambda: "שלום " * 6_000,
}


@pytest.mark.parametrize("limit", [16])
@pytest.mark.parametrize("name", sorted(GIANTS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_shortened_giant_has_the_ids_of_the_whole(kind: str, name: str, limit: int) -> None:
    giant = GIANTS[name]()
    theirs = fresh(kind)
    theirs.enable_truncation(limit)
    whole = rust(kind).encode(giant).ids
    table = processor(kind, limit)([giant])
    assert rows_of(table) == [theirs.encode(giant).ids]
    assert table.truncated == (len(whole) > limit)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_giants_in_pairs(kind: str) -> None:
    giant, found = GIANTS["random words"](), processor(kind, 16)
    whole = rust(kind).encode(giant, add_special_tokens=False).ids
    short = rust(kind).encode("a cat", add_special_tokens=False).ids
    room = 16 - found.pair.size  # the library itself needs gigabytes for two giants
    for pair, first, second in [
        ((giant, "a cat"), whole[: room - len(short)], short),
        (("a cat", giant), short, whole[: room - len(short)]),
        (("", giant), [], whole[:room]),
        ((giant, giant), whole[: room // 2], whole[: room - room // 2]),
    ]:
        table = found([pair])
        between = [*found.pair.before, *first, *found.pair.between, *second, *found.pair.after]
        assert (rows_of(table), table.truncated) == ([between], 1)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("unit", ["x", "a b ", " ", "東"])
def test_a_giant_encodes_to_the_limit_at_most(kind: str, unit: str) -> None:
    table = processor(kind, 256)([unit * 10**6])
    assert 0 < len(table.ids) <= 256


def test_a_giant_is_cut_to_a_length_that_depends_on_the_limit_alone() -> None:
    found = processor("bert", 256)
    kept = {len(found._shorten("a b " * count, 256)) for count in (10**5, 10**6)}
    assert len(kept) == 1 and kept.pop() < 64 * 256 + 4096


# --- tables and batches -----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=8), st.randoms())
def test_take_gives_the_asked_inputs_in_the_asked_order(rows: list[list[int]], chance: random.Random) -> None:
    flat = np.array([number for row in rows for number in row], dtype=np.int64)
    table = TokenTable(flat, starts_of(np.array([len(row) for row in rows])), flat, [], None)
    order = [chance.randrange(len(rows)) for _ in range(chance.randrange(6))]
    batch = take(table, np.array(order, dtype=np.int64))
    assert batch.lengths == tuple(len(rows[row]) for row in order)
    assert batch.ids.tolist() == [number for row in order for number in rows[row]]
    assert batch.type_ids is not None
    assert batch.type_ids.tolist() == batch.ids.tolist()


def test_take_hands_on_what_is_visible() -> None:
    ids = np.arange(6)
    table = TokenTable(ids, np.array([0, 1, 3, 6]), None, [], None, visible=np.array([1, 1, 2]))
    assert take(table, np.array([2, 0])).visible == (2, 1)
    assert take(TokenTable(ids, table.starts, None, [], None), np.array([2, 0])).visible is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=8))
def test_spans(parts: list[tuple[int, int]]) -> None:
    begins, lengths = (np.array([part[i] for part in parts], dtype=np.int64) for i in (0, 1))
    assert spans(begins, lengths).tolist() == [i for begin, length in parts for i in range(begin, begin + length)]


@pytest.mark.parametrize(("side", "mask"), [("right", [[1, 1, 0], [1, 0, 0]]), ("left", [[1, 1, 0], [0, 1, 0]])])
def test_the_mask_is_0_at_tokens_that_are_not_looked_at(side: Any, mask: list[list[int]]) -> None:
    found = TextProcessor(fresh("bert"), padding_side=side)
    features = pad(found, TokenIds(torch.tensor([5, 6, 7, 8, 9]), (3, 2), None, (2, 1)))
    assert features["attention_mask"].tolist() == mask
    assert features["attention_mask"].dtype == torch.int64


@pytest.mark.parametrize(
    ("side", "rows"), [("right", [[1, 2, 9], [3, 9, 9], [9, 9, 9]]), ("left", [[9, 1, 2], [9, 9, 3], [9, 9, 9]])]
)
def test_pad_rows(side: str, rows: list[list[int]]) -> None:
    padded = pad_rows(torch.tensor([1, 2, 3]), (2, 1, 0), 9, side)
    assert padded.tolist() == [row[:2] if side == "right" else row[1:] for row in rows]


def test_pad_rows_of_nothing() -> None:
    assert pad_rows(torch.tensor([], dtype=torch.int64), (), 0).shape == (0, 0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_padded_features_are_those_of_transformers(kind: str, side: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    specials = tiny.FAMILIES[kind].specials
    names = ["input_ids", "token_type_ids", "attention_mask"]
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=fresh(kind), padding_side=side, model_input_names=names, **specials
    )
    found = TextProcessor(fresh(kind), padding_side=side, padding_id=theirs.pad_token_id, with_types=True)
    for inputs in (["a cat", "", "the dog sat by the door"], [("a", "the dog"), ("x y z", "")]):
        wanted = theirs(inputs, padding=True, return_tensors="pt")
        features = pad(found, take(found(inputs), np.arange(len(inputs))))
        assert set(features) == set(wanted)
        assert all(torch.equal(features[name], wanted[name]) for name in features)


def test_padding_of_a_batch_without_inputs() -> None:
    features = pad(processor("bert"), TokenIds(torch.tensor([], dtype=torch.int64), ()))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "input_ids": (0, 0), "token_type_ids": (0, 0), "attention_mask": (0, 0)
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "count"), [("bert", 3), ("roberta", None), ("qwen3", None), ("gpt2", None)])
def test_prompt_length_counts_what_stands_before_the_text(kind: str, count: int | None) -> None:
    """Leading special tokens and the prompt; not the special tokens behind."""
    found = processor(kind)
    own = len(rust(kind).encode("find this", add_special_tokens=False).ids)
    assert found.prompt_length("find this") == len(found.single.before) + own
    assert count is None or found.prompt_length("find this") >= count


# --- threads ----------------------------------------------------------------------------------------------------------


def test_one_processor_in_many_threads() -> None:
    seed = random.Random(11)
    sets = [[some_text(seed, seed.randrange(0, 40)) for _ in range(20)] for _ in range(8)]
    found = processor("bert", 16)
    wanted = [rows_of(found(inputs)) for inputs in sets]
    pairs = [[(a, b) for a, b in zip(inputs[::2], inputs[1::2], strict=True)] for inputs in sets]
    together = [rows_of(found(inputs)) for inputs in pairs]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                assert list(pool.map(lambda inputs: rows_of(found(inputs)), sets)) == wanted
                assert list(pool.map(lambda inputs: rows_of(found(inputs)), pairs)) == together
    finally:
        sys.setswitchinterval(interval)


def test_threads_may_use_different_limits_at_once() -> None:
    found, text = processor("bert", 64), "the cat sat on the mat " * 30
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda limit: len(found([text], limit=limit).ids), list(range(5, 60)) * 4))
    assert sizes == list(range(5, 60)) * 4


def test_texts_and_pairs_of_one_call_are_tokenised_as_alone() -> None:
    found = processor("bert", 16)
    mixed = ["a cat", ("the dog " * 20, "runs"), "b " * 40, ("x", "y")]
    table = found(mixed)
    assert list(table.cut) == [1, 2]
    assert [set(types) for types in types_of(table)] == [{0}, {0, 1}, {0}, {0, 1}]
    for i, item in enumerate(mixed):
        assert take(table, np.array([i])).ids.tolist() == found([item]).ids.tolist()
