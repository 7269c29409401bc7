"""Compiles a graph into a plan: a list of steps over numbered values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import torch

from app.domain.problems import InvalidModel
from app.domain.steps import Skipped
from workers.compression.executor import fusions
from workers.compression.executor.constants import Constants, tensor_of
from workers.compression.executor.devices import bring, device_of
from workers.compression.executor.drafts import Draft, steps_of
from workers.compression.executor.dtypes import FLOATS, to_torch
from workers.compression.executor.inplace import overwriting
from workers.compression.executor.node import Key, Node, Unsupported
from workers.compression.executor.operators import OPERATORS
from workers.compression.executor.plan import Function, Plan
from workers.compression.executor.reach import needed
from workers.compression.executor.reference import Reference
from workers.compression.graph.chance import way_to_newer_opset
from workers.compression.graph.operators import OPSET, key_of

_FEW = 8
"""Elements up to which a float constant may be a factor of sizes."""

NOTHING = 0
"""The slot of a missing input."""


@dataclass
class Program:
    """A compiled graph: a plan, and the values that must be filled in before it runs."""

    plan: Plan
    inputs: dict[str, int]
    outputs: dict[str, int]
    weights: dict[ir.Value, int]
    """The slots of the float initializers that become parameters."""
    constants: list[tuple[int, torch.Tensor]]
    """Slots and tensors of the other constants; they lie on the device of the parameters."""
    sizes: list[tuple[int, torch.Tensor]]
    """Slots and tensors of the constants of shape arithmetic; they stay in host memory."""
    statistics: set[ir.Value]
    """The ``weights`` that hold measured statistics and are not trained."""
    frozen: list[Skipped]
    untranslated: list[str]
    """The operators that torch has no function for, each with its node's name."""


@dataclass
class _Shared:
    """The state that the compilers of a graph and of its subgraphs share."""

    opset: int
    host: set[ir.Value] = field(default_factory=set)
    """Values that are computed from shapes and constants alone: they stay in host memory."""
    frozen: list[Skipped] = field(default_factory=list)
    untranslated: list[str] = field(default_factory=list)
    constants: Constants = field(default_factory=Constants)
    statistics: set[ir.Value] = field(default_factory=set)


def compile_graph(model: ir.Model, outputs: Sequence[str] | None) -> Program:
    """Compile a model's main graph.

    Args:
        model: a model in normal form, sorted topologically; not changed.
        outputs: names of the values to return; None stands for the graph's outputs. Strings and
            sequences are left out: they are no tensors of torch.

    Raises:
        ValueError: a name is not a value of the graph.
        InvalidModel: the graph's opset is older than the normal form's, or neither torch nor
            ``onnx.reference`` can run an operator.
    """
    graph = model.graph
    returned = graph.outputs if outputs is None else _named(graph, outputs)
    returned = [value for value in returned if is_tensor(value)]
    shared = _Shared(_opset(model))
    compiler = _Compiler(graph, shared, root=True)
    plan = compiler.compile(returned)
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
    slots = {str(v.name): slot for v, slot in zip(returned, plan.outputs, strict=True)}
    return Program(
        plan, inputs, slots, weights, constants, sizes, shared.statistics, shared.frozen,
        shared.untranslated,
    )  # fmt: skip


def _opset(model: ir.Model) -> int:
    """Return the opset of a model: the normal form's, or a newer one.

    A newer opset does not change the meaning of the operators that the executor has. Operators that
    it adds run through ``onnx.reference``.
    """
    opset = model.opset_imports.get("", OPSET)
    if opset < OPSET:
        raise InvalidModel(
            f"The graph has opset {opset} and could not be brought to opset {OPSET}, which training"
            f" needs. {way_to_newer_opset(model)}"
        )
    return opset


def _named(graph: ir.Graph, names: Sequence[str]) -> list[ir.Value]:
    values = {str(v.name): v for v in [*graph.inputs, *graph.initializers.values()]}
    values |= {str(v.name): v for node in graph for v in node.outputs}
    if unknown := [name for name in names if name not in values]:
        raise ValueError(f"the graph has no values named {unknown}")
    return [values[name] for name in names]


class _Compiler:
    """Compiles one graph. A subgraph gets the outer values that it reads as further inputs."""

    def __init__(self, graph: ir.Graph, shared: _Shared, *, root: bool) -> None:
        self._graph, self._shared, self._root = graph, shared, root
        self._slots: dict[Key, int] = {}
        self._count = NOTHING + 1
        self._drafts: list[Draft] = []
        self.constants: dict[Key, int] = {}
        self.captured: dict[Key, int] = {}

    def compile(self, returned: Sequence[ir.Value]) -> Plan:
        """Return the plan that computes ``returned`` from inputs and captured values."""
        fused = fusions.find(self._graph, returned)
        inputs = [self._new((value, False)) for value in self._graph.inputs]
        nodes = list(needed(self._graph, returned, fused))
        for node in nodes:
            self._add(node, fused.get(node))
        outputs = [self._slot(value, host=value in self._shared.host) for value in returned]
        overwriting(self._drafts, outputs)
        steps = steps_of(self._drafts, keep={NOTHING, *outputs})
        slots = [*inputs, *self.captured.values()]
        return Plan(self._count, tuple(slots), tuple(outputs), steps)

    def _add(self, node: ir.Node, fusion: fusions.Fusion | None) -> None:
        inputs = node.inputs if fusion is None else fusion.inputs
        results = node.outputs if fusion is None or fusion.outputs is None else fusion.outputs
        executor_node = Node(node, inputs, self._shared.constants.array, self._subplan)
        function = self._function(node, executor_node, fusion)
        if executor_node.no_gradient_reason is not None:
            name = node.name or f"{node.op_type} of {node.outputs[0].name}"
            reason = f"it runs without gradient: {executor_node.no_gradient_reason}"
            self._shared.frozen.append(Skipped(node=name, reason=reason))
        keys: list[Key | None] = [
            None if value is None else (value, slot in executor_node.sizes)
            for slot, value in enumerate(executor_node.inputs)
            if slot not in executor_node.bound
        ]
        keys += executor_node.captured
        measured = {executor_node.inputs[slot] for slot in executor_node.statistics}
        self._shared.statistics.update(value for value in measured if value is not None)
        on_host = self._on_host([key for key in keys if key is not None])
        if on_host or node.op_type in {"Shape", "Size"}:
            self._shared.host.update(results)
        slots = [
            NOTHING if key is None else self._slot(key[0], host=on_host or key[1]) for key in keys
        ]
        if not on_host:
            self._bring(node, keys, slots)
        while slots and slots[-1] == NOTHING:
            slots.pop()
        outputs = [self._new((value, False)) for value in results]
        op_type = node.op_type if fusion is None else ""
        self._drafts.append(Draft(node, op_type, function, slots, outputs))

    def _function(
        self, node: ir.Node, executor_node: Node, fusion: fusions.Fusion | None
    ) -> Function:
        build = OPERATORS.get(key_of(node)) if fusion is None else fusion.build
        lacking = f"{node.domain or 'ai.onnx'}.{node.op_type}"
        if build is not None:
            try:
                return build(executor_node)
            except Unsupported as error:
                executor_node.forget()
                lacking = str(error)
        executor_node.no_gradient_reason = (
            f"the executor has no {lacking}, so nothing before it can be trained"
        )
        name = node.name or node.outputs[0].name
        self._shared.untranslated.append(f"'{name}' ({node.op_type})")
        try:
            return Reference.of(node, self._shared.opset)
        except (NotImplementedError, RuntimeError) as error:
            raise InvalidModel(
                f"The executor has no {lacking} ('{name}'), so this graph can neither be trained"
                " nor exported through torch."
            ) from error

    def _on_host(self, keys: list[Key]) -> bool:
        """Return whether a node belongs to shape arithmetic.

        A node does when its data are computed from shapes and constants, whatever its sizes are
        computed from; a node whose data are constants alone, when its sizes are known too. A weight
        that is reshaped to a computed shape, or gathered at computed indices, stays a weight.
        """
        host = self._shared.host
        data = [value for value, is_size in keys if not is_size]
        sizes = [value for value, is_size in keys if is_size]
        if not all(value in host or _is_constant(value) for value in data):
            return False
        weights = [value for value in data if value not in host and value.dtype in FLOATS]
        if any(value in host for value in data):
            return all(map(_is_small, weights))
        return not weights and all(value in host or _is_constant(value) for value in sizes)

    def _bring(self, node: ir.Node, keys: list[Key | None], slots: list[int]) -> None:
        """Copy inputs in host memory to the device of the node's data."""
        data = [
            index
            for index, key in enumerate(keys)
            if key is not None and key[0] not in self._shared.host and not key[1]
        ]
        for index, key in enumerate(keys):
            if key is None or key[1] or key[0] not in self._shared.host or not data:
                continue
            target = self._count
            self._count += 1
            self._drafts.append(
                Draft(node, "", _to_device_of, [slots[index], slots[data[0]]], [target])
            )
            slots[index] = target

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


def is_tensor(value: ir.Value) -> bool:
    """Return whether a value is a tensor in torch: strings and sequences are none."""
    return value.dtype != ir.DataType.STRING and not isinstance(value.type, ir.SequenceType)


def _is_constant(value: ir.Value) -> bool:
    return tensor_of(value) is not None


def _is_small(value: ir.Value) -> bool:
    tensor = tensor_of(value)
    return tensor is None or tensor.size <= _FEW


def _to_device_of(value: Any, data: Any) -> Any:
    device = device_of([data])
    if isinstance(value, list):
        return bring([value], device)[0]
    return value.to(device, non_blocking=True)
