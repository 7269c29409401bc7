"""Times runs of graphs and of single layers."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from workers.compression.graph import runtime
from workers.compression.graph.operators import key_of
from workers.compression.known_times import KnownTimes
from workers.compression.measure.turns import Timer, timed
from workers.compression.samples.context import Feeds
from workers.compression.targets import onnx as target

_FEWEST, _ENOUGH, _BRIEFLY = 3, 30, 0.004
"""The least and the most runs of a single graph, and the seconds that are enough."""


Shape = tuple[int, ...]


def timer(session: ort.InferenceSession, feeds: Feeds, threads: int) -> Timer:
    """Return a timer for runs of a session that computes with ``threads`` threads."""
    return timed(partial(target.run, session, None, feeds), threads)


def shortest(model: ir.Model, feeds: Feeds, threads: int) -> float:
    """Return the milliseconds of the shortest of several runs: disturbances only add time."""
    session = runtime.session_of(model, optimize=True, threads=threads)
    time_run = timer(session, feeds, threads)
    time_run()
    best, spent, runs = math.inf, 0.0, 0
    while runs < _FEWEST or (spent < _BRIEFLY and runs < _ENOUGH):
        run = time_run()
        best, spent, runs = min(best, run.computed), spent + run.passed, runs + 1
    return best * 1000


@dataclass(frozen=True)
class LayerTimes:
    """The times of layers by themselves; layers of the same form are timed only once."""

    threads: int
    """The number of threads to compute with."""
    known: KnownTimes
    """Where times are kept, and those of earlier jobs are."""

    def of(
        self,
        node: ir.Node,
        shapes: Sequence[Shape | None],
        make: Callable[[], tuple[ir.Model, Feeds]],
        change: Hashable = (),
    ) -> float:
        """Return the milliseconds of a layer.

        Args:
            node: the layer.
            shapes: the shapes of its inputs.
            make: returns a graph of the layer, and its inputs; see ``alone``.
            change: what is different from ``alone`` in that graph; empty where nothing is.
        """
        form = (*_form(node, shapes), change)
        return self.known.of(form, lambda: shortest(*make(), self.threads))


def _form(node: ir.Node, shapes: Sequence[Shape | None]) -> tuple[Hashable, ...]:
    """Return everything that the time of a node by itself depends on; see ``alone``."""
    attributes = sorted((each.name, str(each.value)) for each in node.attributes.values())
    sizes = tuple(None if shape is None else tuple(map(int, shape)) for shape in shapes)
    constants = tuple(value is not None and value.is_initializer() for value in node.inputs)
    return key_of(node), tuple(attributes), sizes, constants


def alone(node: ir.Node, shapes: Sequence[Shape | None]) -> tuple[ir.Model, Feeds]:
    """Return a graph of one node with random float32 weights, and its inputs.

    Args:
        node: a node with one output; not changed.
        shapes: the shapes of its inputs; an input without a shape is left out. Initializers stay
            such.
    """
    assert node.graph is not None, "it says which opset the node is of"
    random = np.random.default_rng(0)
    values: list[ir.Value | None] = []
    feeds, inputs, constants = Feeds(), list[ir.Value](), list[ir.Value]()
    for index, (value, shape) in enumerate(zip(node.inputs, shapes, strict=True)):
        if value is None or shape is None:
            values.append(None)
            continue
        array = random.standard_normal(shape, np.float32)
        name, kind = f"input_{index}", ir.TensorType(ir.DataType.FLOAT)
        copy = ir.Value(name=name, shape=ir.Shape(shape), type=kind)
        if value.is_initializer():
            copy.const_value = ir.Tensor(array, name=name)
            constants.append(copy)
        else:
            feeds[name] = array
            inputs.append(copy)
        values.append(copy)
    attributes = list(node.attributes.values())
    copied = ir.Node(
        node.domain, node.op_type, values, attributes, num_outputs=1, name=node.name or "layer"
    )
    copied.outputs[0].name = "output"
    copied.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        inputs, copied.outputs, nodes=[copied], initializers=constants,
        opset_imports=dict(node.graph.opset_imports), name="layer",
    )  # fmt: skip
    return ir.Model(graph, ir_version=10), feeds
