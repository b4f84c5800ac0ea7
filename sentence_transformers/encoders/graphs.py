"""Encoders whose network is a graph: exporting one that is not there, leaving out what the graph computes itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from sentence_transformers._types import Features
from sentence_transformers.backend.graphs.network import GraphNetwork
from sentence_transformers.backend.graphs.pretrained import PretrainedGraph
from sentence_transformers.inference.run import Request
from sentence_transformers.modules.graph_parts import DRAWN, held, is_as_written
from sentence_transformers.modules.graphs import export
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.layout import packed_tokens


def graphs_of(model: Any) -> Iterator[tuple[Transformer, PretrainedGraph]]:
    """The transformers of an encoder that run as a graph."""
    for part in model.parts():
        if isinstance(part, Transformer) and isinstance(part.pretrained, PretrainedGraph):
            yield part, part.pretrained


def complete(model: Any) -> None:
    """Export the graphs that are not there: with all that follows of the model's first module, else the network alone.

    Raises: as ``modules.graphs.export``.
    """
    for part, graph in graphs_of(model):
        graph.complete(partial(export, list(model) if part is model[0] else [part]))


def with_held(model: Any, request: Request) -> Request:
    """The same request, which tells ``Encoder.forward`` how many modules behind the first its graph computes."""
    count = _held(model)
    return replace(request, forward_kwargs={**request.forward_kwargs, "held": count}) if count else request


def _held(model: Any) -> int:
    """How many; none where one of them is not any more what the graph was made of, or somebody looks into them."""
    first, *others = model
    graph = first.pretrained if isinstance(first, Transformer) else None
    facts = graph.facts if isinstance(graph, PretrainedGraph) and is_as_written(first, Transformer) else None
    if facts is None or len(others) < len(facts.modules):
        return 0
    pairs = zip(facts.modules, others, strict=False)
    is_same = all(type(now) in DRAWN and is_as_written(now, type(now)) and held(now) == then for then, now in pairs)
    return len(facts.modules) if is_same else 0


def compute_whole(model: Any, features: Features) -> Features | None:
    """Token ids -> ``sentence_embedding`` (B, D), where the graph of a model gives it.

    None if a text has no token; the modules know what to do then.
    """
    tokens = features.get("tokens") or packed_tokens(features, model.device)[0]
    network = model[0].network()
    assert isinstance(network, GraphNetwork)
    if 0 in tokens.lengths or not tokens.lengths:
        return None
    return {**features, "sentence_embedding": network.whole(tokens)}
