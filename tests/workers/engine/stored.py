"""Graphs on disk in the form in which steps are given them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from tests.workers.intake.models import model, tensor
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load
from workers.compression.graph.operators import OPSET


def store_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto],
) -> None:
    """Write a graph in the opset of the normal form."""
    proto = model(nodes, inputs, outputs, weights, opset=OPSET)
    proto.ir_version = 10
    onnx.save(proto, path)


def drawn(rng: np.random.Generator, shapes: Mapping[str, Sequence[int]]) -> list[onnx.TensorProto]:
    """Return weights of these names and shapes, by which sums of products get no larger."""
    return [
        tensor(name, (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))
        for name, shape in shapes.items()
    ]


def named(path: Path) -> ir.Model:
    """Return a graph on disk whose nodes all have names."""
    graph = load(path)
    name_nodes(graph)
    return graph
