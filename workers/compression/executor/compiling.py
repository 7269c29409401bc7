"""From a graph to a plan: which steps, in which order, over which values."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from app.domain.problems import InvalidModel
from app.domain.steps import Skipped
from workers.compression.executor import fusions
from workers.compression.executor.constants import Constants, tensor_of
from workers.compression.executor.drafts import Draft, steps_of
from workers.compression.executor.dtypes import FLOATS, to_torch
from workers.compression.executor.inplace import overwriting
from workers.compression.executor.node import Key, Node, Unsupported
from workers.compression.executor.operators import OPERATORS
from workers.compression.executor.plan import Function, Plan
from workers.compression.executor.reach import needed
from workers.compression.executor.reference import Reference
from workers.compression.graph.operators import OPSET, key_of

_FEW = 8
"""Elements up to which a float constant may be a factor of sizes."""

NOTHING = 0
"""The slot of a missing input."""


@dataclass
class Program:
    """A compiled graph: a plan, and what must be filled into its values first."""

    plan: Plan
    inputs: dict[str, int]
    outputs: dict[str, int]
    weights: dict[ir.Value, int]
    """Float initializers that are parameters."""
    constants: list[tuple[int, torch.Tensor]]
    """Other constants that are read where the parameters are."""
    sizes: list[tuple[int, torch.Tensor]]
    """Constants of shape arithmetic, which stay in host memory."""
    statistics: set[ir.Value]
    """Those of ``weights`` that were measured and are not trained."""
    frozen: list[Skipped]


@dataclass
class _Shared:
    """What a graph and its subgraphs have in common."""

    opset: int
    host: set[ir.Value] = field(default_factory=set)
    """Values that derive from shapes and constants alone: they stay in host memory."""
    frozen: list[Skipped] = field(default_factory=list)
    constants: Constants = field(default_factory=Constants)
    statistics: set[ir.Value] = field(default_factory=set)


def compile_graph(model: ir.Model, outputs: Sequence[str] | None) -> Program:
    """Compile a model's main graph.

    Args:
        model: in normal form, sorted topologically; not changed.
        outputs: names of values to return; the graph's outputs when None.

    Raises:
        ValueError: a name is not a value of the graph.
        InvalidModel: the graph was not brought to the one opset, or has an operator that nothing
            here can run.
    """
    graph = model.graph
    wanted = graph.outputs if outputs is None else _named(graph, outputs)
    shared = _Shared(_opset(model))
    compiler = _Compiler(graph, shared, root=True)
    plan = compiler.compile(wanted)
    weights: dict[ir.Value, int] = {}
    constants: list[tuple[int, torch.Tensor]] = []
    sizes: list[tuple[int, torch.Tensor]] = []
    for (value, host), slot in compiler.constants.items():
        if not host and value.is_initializer() and value.dtype in FLOATS:
            weights[value] = slot
            continue
        array = shared.constants.array(value)
        assert array is not None
        (sizes if host else constants).append((slot, to_torch(array)))
    inputs = {str(v.name): slot for v, slot in zip(graph.inputs, plan.inputs, strict=True)}
    places = {str(v.name): slot for v, slot in zip(wanted, plan.outputs, strict=True)}
    return Program(
        plan, inputs, places, weights, constants, sizes, shared.statistics, shared.frozen
    )


def _opset(model: ir.Model) -> int:
    """Return the opset of a graph: the one that everything is written for, or a newer one.

    Newer ones keep what its operators mean; what is new in them runs through ``onnx.reference``.
    """
    opset = model.opset_imports.get("", OPSET)
    if opset < OPSET:
        raise InvalidModel(
            f"The graph has opset {opset} and could not be brought to opset {OPSET}, which training"
            " needs. Export it with a newer opset."
        )
    return opset


def _named(graph: ir.Graph, names: Sequence[str]) -> list[ir.Value]:
    values = {str(v.name): v for v in [*graph.inputs, *graph.initializers.values()]}
    values |= {str(v.name): v for node in graph for v in node.outputs}
    if unknown := [name for name in names if name not in values]:
        raise ValueError(f"the graph has no values named {unknown}")
    return [values[name] for name in names]


class _Compiler:
    """Compiles one graph; a subgraph gets what lies outside of it as further inputs."""

    def __init__(self, graph: ir.Graph, shared: _Shared, *, root: bool) -> None:
        self._graph, self._shared, self._root = graph, shared, root
        self._slots: dict[Key, int] = {}
        self._count = NOTHING + 1
        self._drafts: list[Draft] = []
        self.constants: dict[Key, int] = {}
        self.captured: dict[Key, int] = {}

    def compile(self, wanted: Sequence[ir.Value]) -> Plan:
        """Return the plan that computes ``wanted`` from inputs and captured values."""
        fused = fusions.find(self._graph, wanted)
        inputs = [self._new((value, False)) for value in self._graph.inputs]
        nodes = list(needed(self._graph, wanted, fused))
        for node in nodes:
            self._add(node, fused.get(node))
        outputs = [self._slot(value, host=value in self._shared.host) for value in wanted]
        overwriting(self._drafts, outputs)
        steps = steps_of(self._drafts, keep={NOTHING, *outputs})
        slots = [*inputs, *self.captured.values()]
        return Plan(self._count, tuple(slots), tuple(outputs), steps)

    def _add(self, node: ir.Node, fusion: fusions.Fusion | None) -> None:
        inputs = node.inputs if fusion is None else fusion.inputs
        makes = node.outputs if fusion is None or fusion.outputs is None else fusion.outputs
        view = Node(node, inputs, self._shared.constants.array, self._subplan)
        function = self._function(node, view, fusion)
        if view.blocks is not None:
            name = node.name or f"{node.op_type} of {node.outputs[0].name}"
            reason = f"it runs without gradient: {view.blocks}"
            self._shared.frozen.append(Skipped(node=name, reason=reason))
        keys: list[Key | None] = [
            None if value is None else (value, slot in view.sizes)
            for slot, value in enumerate(view.inputs)
            if slot not in view.taken
        ]
        keys += view.captured
        measured = {view.inputs[slot] for slot in view.statistics}
        self._shared.statistics.update(value for value in measured if value is not None)
        on_host = self._on_host([key for key in keys if key is not None])
        if on_host or node.op_type in {"Shape", "Size"}:
            self._shared.host.update(makes)
        slots = [
            NOTHING if key is None else self._slot(key[0], host=on_host or key[1]) for key in keys
        ]
        if not on_host:
            self._bring(node, keys, slots)
        while slots and slots[-1] == NOTHING:
            slots.pop()
        outputs = [self._new((value, False)) for value in makes]
        op_type = node.op_type if fusion is None else ""
        self._drafts.append(Draft(node, op_type, function, slots, outputs))

    def _function(self, node: ir.Node, view: Node, fusion: fusions.Fusion | None) -> Function:
        build = OPERATORS.get(key_of(node)) if fusion is None else fusion.build
        view.blocks = f"the executor has no {node.domain or 'ai.onnx'}.{node.op_type}"
        if build is not None:
            view.blocks = None
            try:
                return build(view)
            except Unsupported as error:
                view.forget()
                view.blocks = str(error)
        return Reference.of(node, self._shared.opset)

    def _on_host(self, keys: list[Key]) -> bool:
        """Return whether a node belongs to shape arithmetic.

        It does when its data derive from shapes and constants. A weight that is given a computed
        shape, or read at computed places, stays a weight.
        """
        host = self._shared.host
        if not all(value in host or _is_constant(value) for value, _ in keys):
            return False
        data = [value for value, is_size in keys if not is_size]
        weights = [v for v in data if v not in host and v.dtype in FLOATS]
        derived = any(value in host for value in data)
        return not weights or (derived and all(_is_small(v) for v in weights))

    def _bring(self, node: ir.Node, keys: list[Key | None], slots: list[int]) -> None:
        """Bring what derives from shapes to the device of the data that it meets."""
        data = [
            index
            for index, key in enumerate(keys)
            if key is not None and key[0] not in self._shared.host and not key[1]
        ]
        for index, key in enumerate(keys):
            if key is None or key[1] or key[0] not in self._shared.host or not data:
                continue
            moved = self._count
            self._count += 1
            self._drafts.append(Draft(node, "", _beside, [slots[index], slots[data[0]]], [moved]))
            slots[index] = moved

    def _slot(self, value: ir.Value, *, host: bool) -> int:
        constant = _is_constant(value)
        key = (value, host and constant)
        if key in self._slots:
            return self._slots[key]
        slot = self._new(key)
        if constant and self._root:
            self.constants[key] = slot
        else:
            assert not self._root, f"{value.name} is computed nowhere"
            self.captured[key] = slot
        return slot

    def _new(self, key: Key) -> int:
        self._slots[key] = slot = self._count
        self._count += 1
        return slot

    def _subplan(self, graph: ir.Graph) -> tuple[Plan, list[Key]]:
        compiler = _Compiler(graph, self._shared, root=False)
        plan = compiler.compile(graph.outputs)
        return plan, list(compiler.captured)


def _is_constant(value: ir.Value) -> bool:
    return tensor_of(value) is not None


def _is_small(value: ir.Value) -> bool:
    tensor = tensor_of(value)
    return tensor is None or tensor.size <= _FEW


def _beside(value: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    return value.to(data.device, non_blocking=True)
