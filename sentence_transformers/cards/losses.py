"""What a card says about losses: their names, their settings, and what to cite."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

OWN = "sentence_transformers."
LIBRARY = "Sentence Transformers"
LIBRARY_CITATION = """\
@inproceedings{reimers-2019-sentence-bert,
    title = "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
    author = "Reimers, Nils and Gurevych, Iryna",
    booktitle = "Proceedings of the 2019 Conference on Empirical Methods in Natural Language Processing",
    month = "11",
    year = "2019",
    publisher = "Association for Computational Linguistics",
    url = "https://arxiv.org/abs/1908.10084",
}
"""

ENTRY = re.compile(r"^@\w+\{\s*([^,\s]+)\s*,.*?(?=^@|\Z)", re.DOTALL | re.MULTILINE)


def all_of(loss: Any) -> list[Any]:
    """Every loss of a training once: each of several by name, and what a loss is wrapped around."""
    if loss is None:
        return []
    if isinstance(loss, Mapping):
        found = [part for one in loss.values() for part in all_of(one)]
    else:
        found = [loss, *(part for part in loss.children() if "citation" in dir(type(part)))]
        found = [found[0], *(deeper for part in found[1:] for deeper in all_of(part))]
    return list({id(one): one for one in found}.values())


def described(loss: Any) -> dict[str, str] | None:
    """Name and settings of a loss; the settings as JSON, "" without any."""
    if loss is None:
        return None
    ask = getattr(loss, "get_config_dict", None)
    config = ask() if callable(ask) else {}
    shown = json.dumps(config, indent=4, ensure_ascii=False, default=str) if config else ""
    return {"fullname": name_of(loss), "config": shown}


def name_of(thing: Any) -> str:
    """The class of a loss or an evaluator: its name where it is ours, else its dotted path."""
    kind = type(thing)
    return kind.__name__ if kind.__module__.startswith(OWN) else f"{kind.__module__}.{kind.__qualname__}"


def citation(loss: Any) -> str:
    """BibTeX of a loss, "" where it has none."""
    found = getattr(loss, "citation", "")
    return str(found).strip() if found else ""


def once_each(citations: Mapping[str, str]) -> list[tuple[str, str]]:
    """Headings and BibTeX, every entry once: things that cite the same share a heading.

    Args:
        citations: what cites -> BibTeX.
    """
    names: dict[str, list[str]] = {}
    for name, text in citations.items():
        names.setdefault(text.strip(), []).append(name)
    seen: set[str] = set()
    found = []
    for text, who in names.items():
        fresh = [match[0].strip() for match in ENTRY.finditer(text) if match[1] not in seen]
        seen.update(match[1] for match in ENTRY.finditer(text))
        if fresh:
            found.append((" and ".join(who), "\n\n".join(fresh)))
    return found


def tags(losses: Sequence[Any]) -> list[str]:
    """The tags of a model that was trained with them."""
    return [f"loss:{type(loss).__name__}" for loss in losses]
