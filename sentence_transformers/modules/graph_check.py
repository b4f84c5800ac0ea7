"""Whether a graph computes what torch computes, on a few made-up batches: padded here, without padding there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sentence_transformers.backend.graphs.aside import aside
from sentence_transformers.backend.graphs.facts import EMBEDDING, IDS, LOGITS, MASK, STATES, TYPES, Facts
from sentence_transformers.backend.graphs.levels import Level
from sentence_transformers.backend.native.heads import FEATURES
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.errors import need
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.tokens import Packed, TokenIds

Arrays = dict[str, np.ndarray[Any, Any]]
Run = Callable[[Arrays], Arrays]

LENGTHS = ((1,), (7, 2, 11, 1), (150, 3))  # tokens of the inputs of each batch; the last is longer than most windows


def check(
    path: Path, network: NativeNetwork, modules: Sequence[nn.Module], facts: Facts, types: bool, level: Level
) -> None:
    """Compare a graph with torch.

    Args:
        network: what computes the transformer, in float32. modules: those behind it that the graph holds.
        types: whether the graph takes segment numbers.
        level: says how near it must come.

    Raises: ValueError where it is off by more than ``tolerance`` times the largest value.
    """
    run, parts = runner(path), [copy.deepcopy(module).float().eval() for module in modules]
    for number, lengths in enumerate(LENGTHS):
        tokens = made_up(network, lengths, types, seed=number)
        wanted = expected(network, parts, facts, tokens)
        found = run(padded(network, tokens, types))
        for name, value in wanted.items():
            got = found[name]
            if value.ndim < got.ndim:  # by token: without padding
                got = got[_real(tokens.lengths)]
            error = float(np.abs(got - value).max()) / max(1.0, float(np.abs(value).max()))
            if not error <= tolerance(level):
                raise ValueError(
                    f"The exported graph gives another {name} than torch: off by {error:.1e} of the largest value, "
                    f"{tolerance(level):.0e} is allowed. Nothing was written. "
                    + ("float16 may be too narrow for this model: use O3. " if level.half else "")
                )


def tolerance(level: Level) -> float:
    """The largest error, as a share of the largest value.

    A mistake in a graph is off by a hundredth and more; rounding alone, in a random network of 6 layers by 1e-6, in one
    of 22 with windows by 4e-5.
    """
    if level.half:
        return 5e-2
    return 2e-2 if level.tanh_gelu else 5e-4


def runner(path: Path) -> Run:
    """Run an ONNX file with whichever runtime is installed.

    Raises: ImportError where none is.
    """
    if find_spec("onnxruntime") is None and find_spec("openvino") is not None:
        openvino = need("openvino", extra="openvino", what="Checking an exported graph")
        compiled = aside(openvino.compile_model, str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        names = [output.get_any_name() for output in compiled.outputs]
        return lambda given: dict(zip(names, compiled(given).values(), strict=True))
    onnxruntime = need("onnxruntime", extra="onnx", what="Checking an exported graph")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return lambda given: dict(zip(outputs, session.run(outputs, given), strict=True))


def made_up(network: NativeNetwork, lengths: Sequence[int], types: bool, seed: int) -> TokenIds:
    """Sequences of random tokens, no longer than the network reads."""
    random = torch.Generator().manual_seed(seed)
    lengths = [min(length, network.position_limit or length) for length in lengths]
    ids = torch.randint(0, network.spec.vocabulary, (sum(lengths),), generator=random)
    segments = torch.randint(0, network.spec.types, (sum(lengths),), generator=random) if types else None
    return TokenIds(ids, tuple(lengths), segments)


def padded(network: NativeNetwork, tokens: TokenIds, types: bool) -> Arrays:
    """The inputs of a graph."""
    real = _real(tokens.lengths)
    ids = np.full(real.shape, network.spec.padding_id or 0, dtype=np.int64)
    ids[real] = tokens.ids.numpy()
    given = {IDS: ids, MASK: real.astype(np.int64)}
    if types:
        given[TYPES] = np.zeros(real.shape, dtype=np.int64)
        if tokens.type_ids is not None:
            given[TYPES][real] = tokens.type_ids.numpy()
    return given


def expected(network: NativeNetwork, modules: Sequence[Any], facts: Facts, tokens: TokenIds) -> Arrays:
    """What torch computes, under the names of the outputs; values by token without padding, (N, ...)."""
    if facts.task == FEATURES:
        states = network.run(tokens)[-1]
        features: dict[str, Any] = {"token_embeddings": Packed(states.clone(), tokens.lengths)}
        wanted = {STATES: states}
    else:
        logits = network.logits(tokens)
        features = {"token_embeddings": logits}
        wanted = {} if modules else {LOGITS: logits.whole().values if isinstance(logits, Projected) else logits}
    for module in modules:
        features = module(features)
    if modules:
        wanted[EMBEDDING] = features["sentence_embedding"]
    return {name: value.numpy() for name, value in wanted.items()}


def _real(lengths: Sequence[int]) -> np.ndarray[Any, Any]:
    """(B, T) bool: where there is a token."""
    return np.arange(max(lengths))[None] < np.array(lengths)[:, None]
