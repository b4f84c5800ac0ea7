"""Small tokenizers built from the sentences below: WordPiece, byte-level BPE and Unigram.

The trainers of the tokenizers library number their pieces in hash order, which differs from process to process; the
counting here does not. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SENTENCES = [
    "The cat sat on the mat and the dog sat by the door.",
    "A long river runs from the high mountains down to the sea.",
    "Who would have thought that so much water could be in one lake?",
    "She was reading a letter while the others were waiting for the train.",
    "Find this: the longest word in the shortest sentence.",
    "Nothing fits into a window that is too small for the text.",
    "Most dogs like walking; some cats like sleeping in the sun.",
    "He counted 1 2 3 4 5 6 7 8 9 0 and began again (slowly) [twice] #done!",
    "UPPER and lower letters: ABCDEFGHIJKLMNOPQRSTUVWXYZ, abcdefghijklmnopqrstuvwxyz.",
    "naïve café, über, 東京, שלום",
]

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
T5 = ("<pad>", "</s>", "<unk>")
LLAMA = ("<unk>", "<s>", "</s>", "<pad>")
GPT2 = ("<|endoftext|>",)

_SPACE = "\u2581"  # what Metaspace writes for a blank


def word_piece(specials: tuple[str, ...], before: str, after: str) -> Tokenizer:
    """Lower-casing WordPiece; ``before A after B after`` around the texts. ``specials`` come first, in that order."""
    words = Counter(word for line in SENTENCES for word, _ in _basic().pre_tokenize_str(_lower(line)))
    letters = sorted({letter for word in words for letter in word})
    whole = [word for word, count in _ranked(words) if count > 1 and len(word) > 1]
    endings = Counter(word[-size:] for word in words for size in (2, 3) if len(word) > size)
    tails = [ending for ending, count in _ranked(endings) if count > 1]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *whole, *(f"##{tail}" for tail in tails)]
    unknown = next(name for name in specials if "unk" in name.lower())
    tokenizer = Tokenizer(models.WordPiece(vocab=_numbered(pieces), unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = _basic()
    tokenizer.decoder = decoders.WordPiece()
    return _finish(tokenizer, specials, before, after)


def byte_bpe(specials: tuple[str, ...], before: str, after: str, merges: int = 150) -> Tokenizer:
    """Byte-level BPE, no unknown token; ``before`` and ``after`` may be empty."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = Counter(word for line in SENTENCES for word, _ in split.pre_tokenize_str(line))
    found = _merges({tuple(word): count for word, count in words.items()}, merges)
    pieces = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in found)]
    tokenizer = Tokenizer(models.BPE(vocab=_numbered(pieces), merges=found))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return _finish(tokenizer, specials, before, after)


def unigram(specials: tuple[str, ...], before: str, after: str, size: int = 220) -> Tokenizer:
    """Unigram over Metaspace, NFKC, case kept; the unknown token is the one of ``specials`` that says so."""
    split = pre_tokenizers.Metaspace()
    words = Counter(w for line in SENTENCES for w, _ in split.pre_tokenize_str(f"{_SPACE}{line}".replace(" ", _SPACE)))
    parts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for stop in range(start + 1, min(len(word), start + 5) + 1):
                parts[word[start:stop]] += count
    letters = [(part, count) for part, count in _ranked(parts) if len(part) == 1]
    longer = [(part, count) for part, count in _ranked(parts) if len(part) > 1 and count > 2][:size]
    total = sum(count for _, count in letters + longer)
    scored = [(name, 0.0) for name in specials]
    # The small slope keeps scores distinct: no segmentation depends on how ties are broken.
    scored += [(part, math.log(count / total) - 1e-3 * rank) for rank, (part, count) in enumerate(letters + longer)]
    unknown = next(at for at, name in enumerate(specials) if "unk" in name.lower())
    tokenizer = Tokenizer(models.Unigram(vocab=scored, unk_id=unknown))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Metaspace()
    return _finish(tokenizer, specials, before, after)


def _basic() -> pre_tokenizers.BertPreTokenizer:
    return pre_tokenizers.BertPreTokenizer()


def _lower(line: str) -> str:
    written: str = normalizers.BertNormalizer(lowercase=True).normalize_str(line)
    return written


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _merges(words: dict[tuple[str, ...], int], limit: int) -> list[tuple[str, str]]:
    """The most frequent neighbours, merged one pair at a time; ties go to the alphabetically first pair."""
    found: list[tuple[str, str]] = []
    while len(found) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        words = {_merged(word, best): count for word, count in words.items()}
    return found


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return tuple(out)


def _finish(tokenizer: Tokenizer, specials: tuple[str, ...], before: str, after: str) -> Tokenizer:
    tokenizer.add_special_tokens(list(specials))
    used = [(name, tokenizer.token_to_id(name)) for name in dict.fromkeys([before, after]) if name]
    if used:
        single = " ".join(
            part for part in (f"{before}:0" if before else "", "$A:0", f"{after}:0" if after else "") if part
        )
        second = " ".join(part for part in ("$B:1", f"{after}:1" if after else "") if part)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=f"{single} {second}", special_tokens=used
        )
    return tokenizer
