"""The small language that graphs are written in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.backend.graphs.builder import Graph, store

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


def run(path: Path, **inputs: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: np.array(value) for name, value in inputs.items()}))


def test_a_graph_computes_what_was_added(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.cast(graph.input("x", ("n",)), torch.float32)
    half = graph.add("Mul", x, graph.number(0.5))
    graph.save(tmp_path / "g.onnx", {"y": (graph.add("Add", half, graph.number(1)), ("n",))}, {"key": "text"})
    assert run(tmp_path / "g.onnx", x=[2, 5])[0].tolist() == [2.0, 3.5]
    assert [(e.key, e.value) for e in onnx.load(tmp_path / "g.onnx").metadata_props] == [("key", "text")]


def test_what_no_output_needs_is_not_written(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.cast(graph.input("x", ("n",)), torch.float32)
    graph.add("Mul", x, graph.parameter("unused", torch.ones(1)))
    used = graph.add("Add", x, graph.parameter("used", torch.ones(1)))
    graph.save(tmp_path / "g.onnx", {"y": (used, ("n",))}, {})
    written = onnx.load(tmp_path / "g.onnx").graph
    assert [node.op_type for node in written.node] == ["Cast", "Add"]
    assert [value.name for value in written.initializer] == ["used"]


def test_names_say_where_a_value_is_from_and_are_unique() -> None:
    graph = Graph()
    with graph.scope("layer.0"), graph.scope("mlp"):
        names = [graph.add("Relu", "x"), graph.add("Relu", "x"), graph.add("Tanh", "x", name="up")]
        parts = graph.add_many("Split", 2, "x")
    assert names == ["layer.0/mlp/Relu", "layer.0/mlp/Relu_1", "layer.0/mlp/up"]
    assert parts == ["layer.0/mlp/Split:0", "layer.0/mlp/Split:1"]


def test_a_shared_weight_is_written_once_and_a_view_of_it_is_another() -> None:
    graph, weight = Graph(), torch.arange(6.0).view(2, 3)
    assert graph.parameter("a", weight) == graph.parameter("b", weight)
    assert graph.parameter("c", weight.t()) != graph.parameter("a", weight)
    assert graph.parameter("d", weight, torch.float16) != graph.parameter("a", weight)
    assert graph.ints(1, 2) == graph.ints(1, 2) != graph.ints(2, 1)


def test_parameters_and_numbers_have_the_type_of_the_graph(tmp_path: Path) -> None:
    graph = Graph(torch.float16)
    x = graph.cast(graph.input("x", ("n",)), torch.float16)
    value = graph.add("Add", graph.add("Mul", x, graph.parameter("w", torch.full((1,), 3.0))), graph.number(1))
    graph.save(tmp_path / "g.onnx", {"y": (graph.cast(value, torch.float32), ("n",))}, {})
    assert {e.data_type for e in onnx.load(tmp_path / "g.onnx").graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert run(tmp_path / "g.onnx", x=[2])[0].tolist() == [7.0]


def test_a_wrong_node_is_found_when_it_is_written(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.add("Softmacks", graph.cast(graph.input("x", ("n",)), torch.float32))
    with pytest.raises(onnx.checker.ValidationError, match="Softmacks"):
        graph.save(tmp_path / "g.onnx", {"y": (value, ("n",))}, {})


def test_large_weights_go_to_a_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentence_transformers.backend.graphs.builder.EXTERNAL_FROM", 4000)
    graph, weight = Graph(), torch.arange(2000.0)
    x = graph.cast(graph.input("x", (1,)), torch.float32)
    graph.save(tmp_path / "g.onnx", {"y": (graph.add("Add", x, graph.parameter("w", weight)), (2000,))}, {})
    assert (tmp_path / "g.onnx").stat().st_size < 4000 < (tmp_path / "g.onnx_data").stat().st_size
    assert run(tmp_path / "g.onnx", x=[1])[0].tolist() == (weight + 1).tolist()
    (tmp_path / "copy").mkdir()
    store(onnx.load(tmp_path / "g.onnx"), tmp_path / "copy" / "h.onnx")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["h.onnx", "h.onnx_data"]
    assert run(tmp_path / "copy" / "h.onnx", x=[1])[0].tolist() == (weight + 1).tolist()
