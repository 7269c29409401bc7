"""Runs a graph on samples piece by piece, so that layers can be changed between the pieces."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import runtime
from workers.compression.methods.prune.groups import all_inputs
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets.onnx import run

_MEMORY = 1 << 30
"""The bytes that the stored values of all samples may take."""


class PiecewiseRun:
    """A run of a graph that computes requested values one after the other; no node runs twice.

    Args:
        model: the graph; the initializers of nodes that have not run yet may change meanwhile.
        values: names of the values that will be requested, in topological order.
        samples: the samples that the graph runs on. The last ones are left out if the stored values
            take too much memory.
        threads: the number of threads.
    """

    def __init__(
        self, model: ir.Model, values: Sequence[str], samples: Samples, threads: int
    ) -> None:
        self._model, self._threads = model, threads
        self._nodes = list(model.graph)
        self._producers = {str(v.name): node for node in self._nodes for v in node.outputs}
        self._requested = list(values)
        self._stored: list[Feeds] = [feeds for feeds, _ in samples.runs()]
        required = self._required_nodes(self._requested, set())
        self._pending = [node for node in self._nodes if node in required]

    def compute(self, name: str) -> list[NDArray[Any]]:
        """Return a value for each run, computed from the stored values.

        Args:
            name: the next of the requested values.
        """
        self._requested.remove(name)
        available = set(self._stored[0])
        required = self._required_nodes([name], available)
        due = [node for node in self._pending if node in required]
        self._pending = [node for node in self._pending if node not in required]
        used_later = {str(v.name) for node in self._pending for v in self._read(node)} | {
            *self._requested
        }
        computed = [str(v.name) for node in due for v in node.outputs if v.name]
        needed_later = [
            value_name for value_name in computed if value_name in used_later or value_name == name
        ]
        if due:
            self._run(due, needed_later)
        results = [stored[name] for stored in self._stored]
        for stored in self._stored:
            for value_name in [value_name for value_name in stored if value_name not in used_later]:
                del stored[value_name]
        return results

    def _required_nodes(self, names: Sequence[str], available: set[str]) -> set[ir.Node]:
        """Return the nodes that must run for some values, given the available values."""
        required: set[ir.Node] = set()
        pending = [*names]
        while pending:
            name = pending.pop()
            node = self._producers.get(name)
            if name not in available and node is not None and node not in required:
                required.add(node)
                pending += [str(value.name) for value in self._read(node)]
        return required

    def _read(self, node: ir.Node) -> list[ir.Value]:
        """Return the values of the main graph that a node reads."""
        return [value for value in all_inputs(node) if value.graph is self._model.graph]

    def _run(self, nodes: list[ir.Node], outputs: list[str]) -> None:
        """Run nodes on the stored values, and store their outputs."""
        read = [value for node in nodes for value in self._read(node)]
        values = {str(v.name): v for v in (*read, *(v for node in nodes for v in node.outputs))}
        inputs = [name for name in self._stored[0] if name in values]
        constants = {str(v.name): v for v in read if v.is_initializer()}
        view = ir.GraphView(
            [values[name] for name in inputs],
            [values[name] for name in outputs],
            nodes=nodes,
            initializers=[v for name, v in constants.items() if name not in inputs],
            opset_imports=self._model.graph.opset_imports,
            name="piece",
        )
        piece = ir.Model(view.clone(), ir_version=self._model.ir_version)
        for value in piece.graph.inputs:
            _describe(value, self._stored[0][str(value.name)])
        session = runtime.session_of(piece, threads=self._threads)
        bytes_stored = 0
        for index, stored in enumerate(self._stored):
            results = run(session, outputs, {name: stored[name] for name in inputs})
            stored |= dict(zip(outputs, results, strict=True))
            bytes_stored += sum(
                array.nbytes for array in stored.values() if isinstance(array, np.ndarray)
            )
            if bytes_stored > _MEMORY:
                del self._stored[index + 1 :]


def _describe(value: ir.Value, array: NDArray[Any]) -> None:
    """Give an input the type and rank of an array, with dynamic sizes."""
    if isinstance(array, np.ndarray):
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape([None] * array.ndim)
