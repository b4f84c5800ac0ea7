"""Examples from training data, for the widget on the Hub and for the code in the card. Nothing is left to chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .datasets import Rows, by_name, sample
from .markdown import cut

WIDGETS = 5
SENTENCES = 3
"""Sentences that a widget compares with its source."""
LONGEST = 300
"""Characters of a text; what a widget shows has to be read."""

LABELS = ("label", "labels", "score", "scores")
QUERIES = frozenset({"query", "queries", "question", "questions"})
DOCUMENTS = frozenset({"answer", "answers", "document", "documents", "doc", "docs", "passage", "passages"})


def is_retrieval(names: Sequence[str]) -> bool:
    """Whether columns with these names are of queries and documents."""
    lowered = {name.lower() for name in names}
    return bool(lowered & QUERIES) or bool(lowered & DOCUMENTS)


def samples(dataset: Any) -> list[Rows]:
    """The first rows of each dataset, columns of texts only."""
    return [_texts(sample(one)) for one in by_name(dataset).values()]


def compared(found: Sequence[Rows]) -> list[dict[str, Any]]:
    """Widgets of sentence similarity: a source, and sentences one of which belongs to it, its place being different.

    Args:
        found: as ``samples`` gives them.
    """
    widgets: list[dict[str, Any]] = []
    for rows in found:
        names = list(rows)
        if not names:
            continue
        others = [text for name in names[1:] or names for text in rows[name]]
        for i in _shortest(rows):
            source = rows[names[0]][i]
            own = [rows[name][i] for name in names[1:]]
            step = max(1, len(others) // (SENTENCES + 1))
            more = [others[(i + 1 + k * step) % len(others)] for k in range(len(others))]
            sentences = [one for one in dict.fromkeys([*own, *more]) if one != source][:SENTENCES]
            if not sentences:
                continue
            place = len(widgets) % len(sentences)
            sentences[0], sentences[place] = sentences[place], sentences[0]
            widgets.append(
                {"source_sentence": cut(source, LONGEST), "sentences": [cut(one, LONGEST) for one in sentences]}
            )
    return _spread(widgets, len(found))


def alone(found: Sequence[Rows]) -> list[dict[str, Any]]:
    """Widgets of a single text. Args: as ``compared``."""
    texts = [
        {"text": cut(text, LONGEST)} for rows in found for i in _shortest(rows) for text in [rows[next(iter(rows))][i]]
    ]
    return _spread(texts, len(found))


def usage(found: Sequence[Rows]) -> list[list[str]]:
    """Rows of texts for the code in the card: the shortest ones of the first dataset that has any."""
    for rows in found:
        places = _shortest(rows)
        if places:
            return [[cut(values[i], LONGEST) for values in rows.values()] for i in places]
    return []


def by_label(dataset: Any, examples: int = 3) -> list[dict[str, str]]:
    """Some texts of each label, where the data have texts and a label."""
    rows = sample(dataset)
    label = next((name for name in LABELS if name in rows), None)
    texts = _texts(rows)
    if label is None or not texts:
        return []
    found: dict[str, list[str]] = {}
    for text, value in zip(next(iter(texts.values())), rows[label], strict=False):
        kept = found.setdefault(str(value), [])
        if len(kept) < examples and text not in kept:
            kept.append(text)
    return [
        {"Label": value, "Examples": "\n".join(cut(text, LONGEST) for text in kept)} for value, kept in found.items()
    ]


def _texts(rows: Rows) -> Rows:
    """The columns of texts; of those rows in which every one of them has one."""
    names = [name for name, values in rows.items() if name not in LABELS and _mostly_text(values)]
    whole = [row for row in zip(*(rows[name] for name in names), strict=False) if all(_is_text(one) for one in row)]
    return {name: list(values) for name, values in zip(names, zip(*whole, strict=True), strict=False)} if whole else {}


def _mostly_text(values: Sequence[Any]) -> bool:
    return 2 * sum(_is_text(value) for value in values) > len(values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _shortest(rows: Mapping[str, Sequence[str]]) -> list[int]:
    """The numbers of a few short rows with different beginnings, in order."""
    if not rows:
        return []
    first = next(iter(rows.values()))
    sizes = [sum(len(values[i]) for values in rows.values()) for i in range(len(first))]
    places: dict[str, int] = {}
    for i in sorted(range(len(first)), key=sizes.__getitem__):
        places.setdefault(first[i], i)
    return sorted(list(places.values())[:WIDGETS])


def _spread(widgets: list[dict[str, Any]], datasets: int) -> list[dict[str, Any]]:
    """At most so many, from all datasets alike."""
    if len(widgets) <= WIDGETS or datasets < 2:
        return widgets[:WIDGETS]
    step = len(widgets) / WIDGETS
    return [widgets[int(k * step)] for k in range(WIDGETS)]
