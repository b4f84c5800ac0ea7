"""What a reranker takes: one pair of texts or many, one query or many. Pure functions on inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from sentence_transformers.modules.modality import is_message


def is_one_pair(inputs: Any) -> bool:
    """Whether this is one pair rather than a list of pairs: a list whose first item is not itself a list.

    A text alone is one input, too; so is a conversation, a list that starts with a chat message. What is neither a
    list nor any other sequence is one input, whatever it may be.
    """
    if isinstance(inputs, np.ndarray):
        return inputs.ndim < 2 and inputs.size > 0
    if isinstance(inputs, (list, tuple)):
        return len(inputs) > 0 and not _is_sequence(inputs[0]) and not isinstance(inputs[0], np.ndarray)
    return not _is_sequence(inputs)


def _is_sequence(item: Any) -> bool:
    return isinstance(item, Sequence) and not isinstance(item, (str, bytes))


def pairs_of(inputs: Any) -> Any:
    """The inputs with arrays, and arrays in a list, as lists; whether they are texts is not checked."""
    if isinstance(inputs, np.ndarray):
        return inputs.tolist()
    if isinstance(inputs, (list, tuple)) and any(isinstance(item, np.ndarray) for item in inputs):
        return [item.tolist() if isinstance(item, np.ndarray) else item for item in inputs]
    return inputs


def is_one_query(query: Any) -> bool:
    """Whether this is one query rather than a list of queries: a text, a conversation, anything that is no sequence."""
    if isinstance(query, np.ndarray):
        return query.ndim == 0
    return not _is_sequence(query) or (len(query) > 0 and is_message(query[0]))


def queries_and_documents(query: Any, documents: Any) -> tuple[list[Any], list[list[Any]]]:
    """A list of queries, and for each the list of its documents.

    Args:
        query: one query or n. documents: the documents of the one query; or n collections of documents.

    Raises: ValueError where these do not belong together, or the documents are no list.
    """
    if is_one_query(query):
        return [query], [_documents("documents", documents)]
    lists = _documents("documents", documents)
    if len(query) != len(lists):
        raise ValueError(
            "rank() with a list of queries needs a list of documents for each; "
            f"got {len(query)} queries and {len(lists)} lists. For one query pass it as a string."
        )
    return list(query), [_documents(f"documents[{at}] (query is a list)", found) for at, found in enumerate(lists)]


def _documents(name: str, documents: Any) -> list[Any]:
    if not isinstance(documents, Iterable) or isinstance(documents, (str, bytes, Mapping, Set)):
        raise ValueError(f"rank() needs a list of documents; {name} is a {type(documents).__name__}.")
    return list(documents)
