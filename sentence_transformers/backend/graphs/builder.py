"""A small language over ``onnx.helper``: add a node, get the name of its value; at the end, write a checked file.

Knows nothing of networks. ``onnx`` is imported only where a graph is made.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.errors import need

OPSET = 17  # the first with LayerNormalization; read by onnxruntime from 1.12 and by OpenVINO from 2022 on
MICROSOFT = "com.microsoft"  # domain of the operators that onnxruntime adds
EXTERNAL_FROM = 1_500_000_000  # bytes of weights above which they get a file beside the graph: protobuf ends at 2 GB
DATA_SUFFIX = "_data"
SMALL = 1024  # bytes of a weight up to which it stays in the graph all the same: runtimes look into shapes and scalars

TYPES = {
    torch.float32: "FLOAT",
    torch.float16: "FLOAT16",
    torch.int64: "INT64",
    torch.int32: "INT32",
    torch.int8: "INT8",
    torch.bool: "BOOL",
}


class Graph:
    """Nodes and weights in the order in which they are added. A value is its name.

    Args:
        dtype: the type that ``number`` and ``parameter`` write: float32, or float16.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.onnx = need("onnx", extra="onnx", what="Writing a graph")
        self.dtype = dtype
        self._nodes: list[Any] = []
        self._weights: dict[str, Tensor] = {}
        self._inputs: list[Any] = []
        self._scope: list[str] = []
        self._taken: dict[str, int] = {}
        self._constants: dict[tuple[Any, ...], str] = {}
        self._parameters: dict[tuple[Any, ...], tuple[Tensor, str]] = {}

    # --- values ------------------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Sequence[str | int], dtype: torch.dtype = torch.int64) -> str:
        """An input of the graph; sizes that vary have a name."""
        self._inputs.append(self._info(name, shape, dtype))
        return name

    def add(self, op: str, *inputs: str | None, domain: str = "", name: str = "", **attributes: Any) -> str:
        """A node with one output. ``None``: an optional input that is left out. ``name``: the last part of its own."""
        return self.add_many(op, 1, *inputs, domain=domain, name=name, **attributes)[0]

    def add_many(
        self, op: str, count: int, *inputs: str | None, domain: str = "", name: str = "", **attributes: Any
    ) -> list[str]:
        """A node with several outputs."""
        node = self._fresh(name or op)
        outputs = [node] if count == 1 else [f"{node}:{i}" for i in range(count)]
        given = [value or "" for value in inputs]
        while given and not given[-1]:
            given.pop()
        self._nodes.append(
            self.onnx.helper.make_node(op, given, outputs, name=node, domain=domain or None, **attributes)
        )
        return outputs

    def weight(self, name: str, value: Tensor) -> str:
        """A tensor that is written with the graph, in its own type."""
        found = self._fresh(name)
        self._weights[found] = value.detach()
        return found

    def parameter(self, name: str, value: Tensor, dtype: torch.dtype | None = None) -> str:
        """A weight in the type of the graph, or in another; one that is asked for twice is written once."""
        wanted = dtype or self.dtype
        key = (value.data_ptr(), value.shape, value.stride(), wanted)
        if key not in self._parameters:  # keeps the tensor, or another one might get its address
            self._parameters[key] = (value, self.weight(name, value.detach().to("cpu", wanted)))
        return self._parameters[key][1]

    def ints(self, *values: int) -> str:
        """A constant (n,) int64."""
        return self._constant(("ints", *values), torch.tensor(values, dtype=torch.int64))

    def integer(self, value: int) -> str:
        """A constant () int64."""
        return self._constant(("integer", value), torch.tensor(value, dtype=torch.int64))

    def number(self, value: float, dtype: torch.dtype | None = None) -> str:
        """A constant () in the type of the graph, or in another."""
        wanted = dtype or self.dtype
        return self._constant(("number", value, wanted), torch.tensor(value, dtype=wanted))

    def cast(self, value: str, dtype: torch.dtype) -> str:
        """``value`` as another type."""
        return self.add("Cast", value, to=self._type(dtype))

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """What is added inside is called ``name/...``."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    # --- the file ----------------------------------------------------------------------------------------------------

    def save(
        self,
        path: Path,
        outputs: Mapping[str, tuple[str, Sequence[str | int]]],
        metadata: Mapping[str, str],
        doc: str = "",
    ) -> None:
        """Write the graph, and ``<path>_data`` beside it where its weights are large; checked by ``onnx``.

        Args:
            outputs: name of an output -> its value, float32, of a node that is no other output, and its shape. What
                none of them needs is not written.
            metadata: key -> text, kept in the file.
        """
        from sentence_transformers._version import __version__

        helper = self.onnx.helper
        nodes, weights = self._needed({value: name for name, (value, _) in outputs.items()})
        graph = helper.make_graph(
            nodes,
            path.stem,
            self._inputs,
            [self._info(name, shape, torch.float32) for name, (_, shape) in outputs.items()],
            self._stored(weights, path),
            doc_string=doc,
        )
        domains = {node.domain for node in nodes}
        opsets = [helper.make_opsetid("", OPSET)]
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(domains) if domain]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=8,
            producer_name="sentence_transformers",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata))
        self.onnx.save_model(model, str(path))
        self.onnx.checker.check_model(str(path))

    def _needed(self, names: Mapping[str, str]) -> tuple[list[Any], dict[str, Tensor]]:
        """The nodes and weights that some output depends on. names: value -> what it is called as an output."""
        kept: list[Any] = []
        wanted = set(names)
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                node = copy.deepcopy(node)
                node.input[:] = [names.get(value, value) for value in node.input]
                node.output[:] = [names.get(value, value) for value in node.output]
                kept.append(node)
        return kept[::-1], {name: value for name, value in self._weights.items() if name in wanted}

    def _stored(self, weights: Mapping[str, Tensor], path: Path) -> list[Any]:
        """The weights as protobuf, or as places in a file of their own."""
        if sum(value.nbytes for value in weights.values()) <= EXTERNAL_FROM:
            return [self._proto(name, value, _bytes(value)) for name, value in weights.items()]
        protos = []
        with open(f"{path}{DATA_SUFFIX}", "wb") as data:
            for name, value in weights.items():
                proto = self._proto(name, value, _bytes(value) if value.nbytes <= SMALL else None)
                if value.nbytes > SMALL:
                    data.write(b"\0" * (-data.tell() % 4096))  # a runtime maps whole pages
                    place = {"location": f"{path.name}{DATA_SUFFIX}", "offset": data.tell(), "length": value.nbytes}
                    proto.data_location = self.onnx.TensorProto.EXTERNAL
                    for key, said in place.items():
                        proto.external_data.add(key=key, value=str(said))
                    data.write(_bytes(value))
                protos.append(proto)
            data.flush()
            os.fsync(data.fileno())
        return protos

    def _proto(self, name: str, value: Tensor, raw: bytes | None) -> Any:
        proto = self.onnx.TensorProto(name=name, data_type=self._type(value.dtype), dims=value.shape)
        if raw is not None:
            proto.raw_data = raw
        return proto

    def _info(self, name: str, shape: Sequence[str | int], dtype: torch.dtype) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self._type(dtype), list(shape))

    def _type(self, dtype: torch.dtype) -> int:
        return int(getattr(self.onnx.TensorProto, TYPES[dtype]))

    def _constant(self, key: tuple[Any, ...], value: Tensor) -> str:
        if key not in self._constants:
            scope, self._scope = self._scope, ["constants"]
            self._constants[key] = self.weight("_".join(map(str, key)).replace("torch.", ""), value)
            self._scope = scope
        return self._constants[key]

    def _fresh(self, name: str) -> str:
        """A name that nothing else has, within the present scope."""
        full = "/".join([*self._scope, name])
        number = self._taken[full] = self._taken.get(full, -1) + 1
        return f"{full}_{number}" if number else full


def _bytes(value: Tensor) -> bytes:
    return value.contiguous().numpy().tobytes()


def store(model: Any, path: Path) -> None:
    """Write a ``ModelProto`` that holds its weights; above ``EXTERNAL_FROM`` bytes, these go to ``<path>_data``."""
    onnx = need("onnx", extra="onnx", what="Writing a graph")
    outside = sum(len(value.raw_data) for value in model.graph.initializer) > EXTERNAL_FROM
    settings = {"all_tensors_to_one_file": True, "location": f"{path.name}{DATA_SUFFIX}", "size_threshold": SMALL}
    onnx.save_model(model, str(path), save_as_external_data=outside, **(settings if outside else {}))
