"""Write a transformer, and as many modules behind it as a graph can hold, to an ONNX file that was seen to be right."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from sentence_transformers.backend.graphs.builder import Graph
from sentence_transformers.backend.graphs.drawing import BATCH, TOKENS, draw_encoder, draw_inputs
from sentence_transformers.backend.graphs.facts import EMBEDDING, KEY, LOGITS, STATES, Facts
from sentence_transformers.backend.graphs.heads import draw_logits, draw_states, draw_word_columns
from sentence_transformers.backend.graphs.levels import Level, level_of
from sentence_transformers.backend.native.families import FAMILIES, Spec, Unsupported
from sentence_transformers.backend.native.heads import FEATURES, FILL
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.backend.native.weights import convert
from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.graph_check import check
from sentence_transformers.modules.graph_parts import TOKENS as TOKEN_EMBEDDINGS
from sentence_transformers.modules.graph_parts import Sketch, draw_module, held, is_as_written
from sentence_transformers.modules.linear import SENTENCE
from sentence_transformers.modules.transformer import Transformer

Outputs: TypeAlias = dict[str, tuple[str, tuple[str | int, ...]]]  # name -> value, shape


def export(modules: Sequence[nn.Module], target: Path, level: str | Level | None = None) -> Facts:
    """Write the first module, a ``Transformer``, and those behind it that a graph can hold.

    The file is there whole or not at all. Weights above 1.5 GB stand beside it, in ``<target>_data``.

    Args:
        modules: of an encoder, in order. The first that cannot be drawn (see ``graph_parts``), and all behind it, are
            left out; so are all of them where no sentence embedding comes out.
        target: the file to write; its folder is made.
        level: "O1" ... "O4" or a ``Level`` (see ``backend.graphs.levels``); None: plain ONNX for any runtime.

    Returns: what the graph says of itself.
    Raises:
        ValueError: the transformer is not one of the families that can be drawn, or what the graph computes is not
            what torch computes.
        ImportError: ``onnx``, or a runtime to check the graph with, is not installed.
        OSError: the file cannot be written.
    """
    wanted = level_of(level)
    with torch.inference_mode():
        network = native_network(modules[0] if len(modules) else None)
        transformer = modules[0]
        assert isinstance(transformer, Transformer)
        types = bool(transformer.text.with_types) and network.weights.types is not None
        graph = Graph(torch.float16 if wanted.half else torch.float32)
        drawn, facts, outputs = _draw(graph, network, modules[1:], transformer.transformer_task, types, wanted)
        with written(target) as staged:
            graph.save(staged, outputs, {KEY: facts.to_json()}, f"{network.spec.family}, {facts.task}")
            check(staged, network, drawn, facts, types, wanted)
    return facts


def native_network(transformer: Any) -> NativeNetwork:
    """The network of a transformer as the native engine computes it, in float32 on the CPU.

    Raises: ValueError where the native engine cannot.
    """
    network = None
    if isinstance(transformer, Transformer) and is_as_written(transformer, Transformer):
        whole = transformer.backend == "torch" and transformer.pretrained.quantization is None
        network = transformer.network() if whole else _stored_network(transformer)
    if not isinstance(network, NativeNetwork):
        kind = transformer.pretrained.config.get("model_type") if isinstance(transformer, Transformer) else None
        found = type(transformer).__name__ if kind is None else f"model_type {kind!r} as it is set up here"
        raise ValueError(
            f"Only a Transformer of one of the families {', '.join(FAMILIES)} can be exported, unchanged (no adapters, "
            f"hooks or remote code); got {found}. Merge adapters first; for other architectures, make the file with "
            "another exporter and put it into the model's folder as onnx/model.onnx."
        )
    return NativeNetwork(network.spec, convert(network.weights, lambda part: part.to("cpu", torch.float32)))


def _stored_network(transformer: Transformer) -> NativeNetwork | None:
    """From the weights in the folder of a transformer that another runtime computes, or that was rounded."""
    pretrained = transformer.pretrained
    try:
        return NativeNetwork.load(pretrained.folder, pretrained.config, torch.float32, transformer.transformer_task)
    except (Unsupported, ModelFileError):
        return None


def _draw(
    graph: Graph, network: NativeNetwork, behind: Sequence[nn.Module], task: str, types: bool, level: Level
) -> tuple[list[nn.Module], Facts, Outputs]:
    """The modules that were drawn, the facts of the graph, and its outputs."""
    spec, weights = network.spec, network.weights
    batch = draw_inputs(graph, types)
    sketch = Sketch(graph, batch)
    outputs: Outputs = {}
    if task == FEATURES:
        states = _wide(graph, draw_encoder(graph, spec, weights, batch, level))
        outputs[STATES] = (states, (BATCH, TOKENS, spec.width))
        sketch.features[TOKEN_EMBEDDINGS] = states
        sketch.widths[TOKEN_EMBEDDINGS] = spec.width
    else:
        states = draw_states(graph, spec, weights, batch, level)
        if task == FILL:
            sketch.words = lambda: draw_word_columns(graph, spec, weights, states, batch)
            sketch.widths[SENTENCE] = _rows(spec)
    drawn = _draw_behind(sketch, behind)
    if drawn:
        outputs[EMBEDDING] = (sketch.features[SENTENCE], (BATCH, sketch.widths[SENTENCE]))
    elif task != FEATURES:
        sizes: tuple[str | int, ...] = (BATCH, TOKENS) if task == FILL else (BATCH,)
        outputs[LOGITS] = (_wide(graph, draw_logits(graph, spec, weights, states)), (*sizes, _rows(spec)))
    return drawn, Facts(task, tuple(map(held, drawn))), outputs


def _draw_behind(sketch: Sketch, modules: Sequence[nn.Module]) -> list[nn.Module]:
    """As many modules as can be drawn; none where they make no sentence embedding."""
    drawn = []
    for module in modules:
        if not draw_module(sketch, module):
            break
        drawn.append(module)
    return drawn if SENTENCE in sketch.features else []


def _wide(graph: Graph, value: str) -> str:
    """A value of the graph's type as float32."""
    return value if graph.dtype is torch.float32 else graph.cast(value, torch.float32)


def _rows(spec: Spec) -> int:
    assert spec.head is not None
    return spec.head.rows


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """Give a path to write a file to, in a folder beside ``target``; at the end it, and what is called after it, gets
    to where it belongs. An exception inside leaves everything as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".exporting-"))
    try:
        yield staging / target.name
        for file in sorted(staging.iterdir(), key=lambda path: path.name == target.name):  # the file itself last
            os.replace(file, target.parent / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
