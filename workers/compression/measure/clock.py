"""Times runs of graphs and of single layers; tells whether the process was held up.

On a busy machine a thread waits for its processor now and then. A run of one thread shows this
itself: its CPU time is shorter than its wall time. With more threads that comparison fails, since
threads that wait for each other may spin; there, involuntary context switches show it.
"""

import math
import resource
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from workers.compression.graph import runtime
from workers.compression.samples.context import Feeds
from workers.compression.targets import onnx as target

_BUSY = 0.95
"""The least share of wall time that an undisturbed thread spends on the processor."""

_FEWEST, _ENOUGH, _BRIEFLY = 3, 30, 0.004
"""The least and the most runs of a single graph, and the seconds that are enough."""


@dataclass(frozen=True)
class Run:
    """One run of a graph, in seconds."""

    passed: float
    """Wall time."""
    computed: float
    """The estimated time on an idle machine: CPU time with one thread, else wall time."""
    held_up: bool
    """Whether other work took the processor away during the run."""


Shape = tuple[int, ...]

Timer = Callable[[], Run]
"""Runs a graph once."""


def timer(session: ort.InferenceSession, feeds: Feeds, threads: int) -> Timer:
    """Return a timer for runs of a session that computes with ``threads`` threads."""
    return timed(partial(target.run, session, None, feeds), threads)


def timed(run: Callable[[], object], threads: int) -> Timer:
    """Return a timer for a call that computes with ``threads`` threads of this process."""
    alone = threads == 1
    who = resource.RUSAGE_THREAD if alone else resource.RUSAGE_SELF

    def once() -> Run:
        switches = resource.getrusage(who).ru_nivcsw
        processor, start = time.thread_time(), time.perf_counter()
        run()
        passed, computed = time.perf_counter() - start, time.thread_time() - processor
        if alone:
            return Run(passed, min(computed, passed), held_up=computed < _BUSY * passed)
        return Run(passed, passed, held_up=resource.getrusage(who).ru_nivcsw > switches)

    return once


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


class LayerTimes:
    """The times of single layers; layers of the same form are timed only once.

    Args:
        threads: number of threads to compute with.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._seen: dict[Hashable, float] = {}

    def of(self, form: Hashable, make: Callable[[], tuple[ir.Model, Feeds]]) -> float:
        """Return the milliseconds of a layer.

        Args:
            form: everything that the time of the layer depends on.
            make: returns a graph of the layer, and its inputs.
        """
        if form not in self._seen:
            self._seen[form] = shortest(*make(), self._threads)
        return self._seen[form]


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
