"""Runs a graph on samples piece by piece, so that a layer can be changed before it is run."""

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
"""Bytes that the values of all samples may take while they wait to be read."""


class Walk:
    """Computes values one after the other; no node runs twice.

    Args:
        model: the graph; initializers of nodes that did not yet run may change meanwhile.
        values: names of what will be asked for, each after those that it depends on.
        samples: what the graph runs on. Its last ones are left out where the values that wait to be
            read take too much memory.
        threads: to compute with.
    """

    def __init__(
        self, model: ir.Model, values: Sequence[str], samples: Samples, threads: int
    ) -> None:
        self._model, self._threads = model, threads
        self._nodes = list(model.graph)
        self._made = {str(v.name): node for node in self._nodes for v in node.outputs}
        self._asked = list(values)
        self._waiting: list[Feeds] = [feeds for feeds, _ in samples.runs()]
        self._left = [node for node in self._nodes if node in self._behind(self._asked, set())]

    def to(self, name: str) -> list[NDArray[Any]]:
        """Return a value of each run, computed from what there is.

        Args:
            name: the next of the values that were announced.
        """
        self._asked.remove(name)
        held = set(self._waiting[0])
        due = self._behind([name], held)
        now = [node for node in self._left if node in due]
        self._left = [node for node in self._left if node not in due]
        used = {str(v.name) for node in self._left for v in self._read(node)} | {*self._asked}
        made = [str(v.name) for node in now for v in node.outputs if v.name]
        kept = [each for each in made if each in used or each == name]
        if now:
            self._run(now, kept)
        found = [values[name] for values in self._waiting]
        for values in self._waiting:
            for each in [each for each in values if each not in used]:
                del values[each]
        return found

    def _behind(self, names: Sequence[str], held: set[str]) -> set[ir.Node]:
        """Return the nodes that values need, back to what is held."""
        found: set[ir.Node] = set()
        open_ = [*names]
        while open_:
            name = open_.pop()
            node = self._made.get(name)
            if name not in held and node is not None and node not in found:
                found.add(node)
                open_ += [str(value.name) for value in self._read(node)]
        return found

    def _read(self, node: ir.Node) -> list[ir.Value]:
        """Return what a node reads of the main graph."""
        return [value for value in all_inputs(node) if value.graph is self._model.graph]

    def _run(self, nodes: list[ir.Node], wanted: list[str]) -> None:
        """Run nodes on what waits, and let what they make wait too."""
        read = [value for node in nodes for value in self._read(node)]
        values = {str(v.name): v for v in (*read, *(v for node in nodes for v in node.outputs))}
        inputs = [name for name in self._waiting[0] if name in values]
        constants = {str(v.name): v for v in read if v.is_initializer()}
        view = ir.GraphView(
            [values[name] for name in inputs],
            [values[name] for name in wanted],
            nodes=nodes,
            initializers=[v for name, v in constants.items() if name not in inputs],
            opset_imports=self._model.graph.opset_imports,
            name="piece",
        )
        piece = ir.Model(view.clone(), ir_version=self._model.ir_version)
        for value in piece.graph.inputs:
            _describe(value, self._waiting[0][str(value.name)])
        session = runtime.session_of(piece, threads=self._threads)
        held = 0
        for index, waiting in enumerate(self._waiting):
            answers = run(session, wanted, {name: waiting[name] for name in inputs})
            waiting |= dict(zip(wanted, answers, strict=True))
            held += sum(each.nbytes for each in waiting.values() if isinstance(each, np.ndarray))
            if held > _MEMORY:
                del self._waiting[index + 1 :]


def _describe(value: ir.Value, array: NDArray[Any]) -> None:
    """Let an input be of the type that was found, and of any size."""
    if isinstance(array, np.ndarray):
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape([None] * array.ndim)
