"""Changes the floating-point type of a graph, or of all but some nodes, by inserting Casts.

The operators' schemas tell which inputs and outputs may change: an input that the standard fixes
to float32 (the scales of a Resize) stays so, and a node whose operator does not allow the new type
stays unchanged. Branches and loops are converted together with the values that they read. Where
readers of a value need another type, there is one Cast, right after the producer.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor, constant, graph_of
from workers.compression.graph.schemas import Schema, allows, schema_of

_TYPE_ATTRIBUTES = ("to", "dtype", "output_datatype")
"""Attributes that name the type of the output of a node."""

_VALUED = frozenset({"Constant", "ConstantOfShape"})
"""Operators whose output has the type of their attribute ``value``."""

_BODIES = frozenset({"If", "Loop", "Scan"})
"""Operators whose graphs have the types of their inputs and outputs."""

Slot = tuple[ir.Node, int]


@dataclass(frozen=True)
class Change:
    """The types to replace, and the type that replaces them."""

    sources: frozenset[ir.DataType]
    target: ir.DataType

    def of(self, value: ir.Value | None) -> bool:
        """Return whether a value has one of the types to replace."""
        return value is not None and value.type is not None and value.dtype in self.sources

    def changed(self, kind: ir.TypeProtocol) -> ir.TypeProtocol:
        """Return a tensor, sequence or optional type with the target type as its elements' type."""
        if isinstance(kind, ir.SequenceType | ir.OptionalType):
            return type(kind)(self.changed(kind.elem_type))
        return ir.TensorType(self.target)


def fits(node: ir.Node, change: Change, opset: int) -> bool:
    """Return whether a node can compute in another type, as far as its schema says.

    At least one of its tensors of an old type must be allowed to have the new one. Sequences are
    converted only together: a node that handles one fits only if all such nodes fit.

    Args:
        node: a node of a graph whose types were inferred.
        change: the change of types.
        opset: the opset version of the node's domain.
    """
    return bool(_moves(node, change, opset))


def retype(model: ir.Model, change: Change, kept: Collection[ir.Node] = ()) -> None:
    """Make a graph compute in another type, in place; its inputs and outputs keep their types.

    Args:
        model: the graph, its types inferred.
        change: the types to replace, and the new type.
        kept: nodes that stay unchanged, including their bodies.
    """
    _Retyping(model, change, kept).run()


def touches_sequence(node: ir.Node, change: Change) -> bool:
    """Return whether a node reads or makes a sequence or optional value of a type to replace."""
    values = (*node.inputs, *node.outputs)
    return any(v is not None and change.of(v) and not _is_tensor(v) for v in values)


def _moves(node: ir.Node, change: Change, opset: int) -> tuple[set[int], set[int]] | None:
    """Return which inputs and outputs change their type; None where none can."""
    if node.op_type == "Constant" and "value" not in node.attributes:
        return None  # its other attributes are float32
    schema = schema_of(node, opset)
    inputs = {
        slot
        for slot, value in enumerate(node.inputs)
        if value is not None
        and change.of(value)
        and _allowed(schema, "inputs", slot, value, change)
    }
    outputs = {
        slot
        for slot, value in enumerate(node.outputs)
        if change.of(value) and _allowed(schema, "outputs", slot, value, change)
    }
    return (inputs, outputs) if inputs or outputs else None


def _allowed(schema: Schema | None, side: str, slot: int, value: ir.Value, change: Change) -> bool:
    assert value.type is not None
    if schema is None:
        return True  # errors then appear when the graph is run
    return allows(getattr(schema, side), slot, change.changed(value.type))


def _is_tensor(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


def _name_type(node: ir.Node, change: Change, schema: Schema | None) -> None:
    """Set the attributes that state the type of a node's output to the new type."""
    names = node.attributes if schema is None else schema.attributes
    for name in _TYPE_ATTRIBUTES:
        if name in names:
            node.attributes[name] = ir.AttrInt64(name, int(change.target))
    if node.op_type in _VALUED:
        fill = node.attributes.get_tensor("value")
        array = np.zeros(1, np.float32) if fill is None else fill.numpy()
        tensor = ir.Tensor(array.astype(change.target.numpy()))
        node.attributes["value"] = ir.AttrTensor("value", tensor)


class _Retyping:
    """One conversion of one graph."""

    def __init__(self, model: ir.Model, change: Change, kept: Collection[ir.Node]) -> None:
        self.model, self.change = model, change
        self.edit = Editor(model)
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.kept = set(kept) | {
            inner for node in kept for graph in bodies(node) for inner in graph.all_nodes()
        }
        self.reads: dict[Slot, ir.DataType] = {}
        """What inputs of a type to leave are read as, where it is known from the node."""

    def run(self) -> None:
        """Convert the graph."""
        fixed = {v: v.type for v in (*self.model.graph.inputs, *self.model.graph.outputs)}
        old = {
            (node, slot): value.dtype
            for node in self.model.graph.all_nodes()
            for slot, value in enumerate(node.inputs)
            if value is not None and self.change.of(value) and value.dtype is not None
        }
        nodes = [node for node in self.model.graph.all_nodes() if node not in self.kept]
        moves = {node: _moves(node, self.change, self._opset(node)) for node in nodes}
        for node, slots in moves.items():
            if slots is not None:
                self._convert(node, *slots)
        self._convert_constants()
        for slot, dtype in old.items():
            self._read(slot, self.reads.get(slot, dtype))
        for node in list(self.model.graph.all_nodes()):
            for graph in bodies(node) if node.op_type in _BODIES else ():
                self._end_body(graph, node)
        self._end_main(fixed)
        self._drop_idle_casts()

    def _opset(self, node: ir.Node) -> int:
        return self.model.graph.opset_imports.get(node.domain, 1)

    def _convert(self, node: ir.Node, inputs: set[int], outputs: set[int]) -> None:
        """Change the types of the outputs of a node, and note the types that its inputs need."""
        for slot in inputs:
            self.reads[node, slot] = self.change.target
        if outputs:
            _name_type(node, self.change, schema_of(node, self._opset(node)))
        for slot in outputs:
            self._set(node.outputs[slot])
        for graph in bodies(node) if node.op_type in _BODIES else ():
            for value in graph.inputs:
                if self.change.of(value):
                    self._set(value)

    def _set(self, value: ir.Value) -> None:
        assert value.type is not None
        value.type = self.change.changed(value.type)

    def _convert_constants(self) -> None:
        """Store constants in the new type where all readers use that type."""
        for graph in self.model.graphs():
            for value in list(graph.initializers.values()):
                uses = [(use.node, use.idx) for use in value.uses()]
                outside = value.is_graph_output() or value.is_graph_input()
                if outside or not uses or not self.change.of(value):
                    continue
                if all(self.reads.get(slot) == self.change.target for slot in uses):
                    with np.errstate(over="ignore"):
                        array = constant(value).astype(self.change.target.numpy())
                    value.const_value = ir.Tensor(array, name=value.name)
                    self._set(value)

    def _read(self, slot: Slot, dtype: ir.DataType) -> None:
        """Make a node read a value in a given type."""
        node, index = slot
        value = node.inputs[index]
        if value is not None and value.dtype != dtype and _is_tensor(value):
            node.replace_input_with(index, self._cast(value, dtype))

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return a value in another type; there is one Cast, right after the producer."""
        if (value, dtype) not in self.casts:
            node = self.edit.node("Cast", [value], f"{value.name}_{dtype.name.lower()}", to=dtype)
            made = node.outputs[0]
            made.shape, made.type = value.shape, ir.TensorType(dtype)
            self.edit.insert_after(value, [node])
            self.casts[value, dtype] = made
        return self.casts[value, dtype]

    def _end_body(self, graph: ir.Graph, node: ir.Node) -> None:
        """Give the outputs of a body the types of the outputs of its node."""
        skipped = len(graph.outputs) - len(
            node.outputs
        )  # the first output of a Loop's body is its condition
        for index, value in enumerate(graph.outputs):
            node_output = node.outputs[index - skipped] if index >= skipped else None
            if (
                node_output is None
                or node_output.dtype is None
                or value.dtype in {None, node_output.dtype}
            ):
                continue
            if _is_tensor(value):
                graph.outputs[index] = self._cast_at_end(graph, value, node_output.dtype)

    def _cast_at_end(self, graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        node = self.edit.node("Cast", [value], f"{value.name}_{dtype.name.lower()}", to=dtype)
        node.outputs[0].shape, node.outputs[0].type = value.shape, ir.TensorType(dtype)
        graph.append(node)
        return node.outputs[0]

    def _drop_idle_casts(self) -> None:
        """Remove Casts whose input already has the target type."""
        for node in list(self.model.graph.all_nodes()):
            value = node.inputs[0] if node.op_type == "Cast" else None
            if value is None or value.dtype != node.attributes.get_int("to"):
                continue
            if not node.outputs[0].is_graph_output():
                self.edit.bypass(node)
            elif value.graph is node.graph and value.producer() and not value.is_graph_output():
                self._give_name(value, node)

    def _give_name(self, value: ir.Value, cast: ir.Node) -> None:
        """Make a value the graph output in place of its idle Cast."""
        graph, output = graph_of(cast), cast.outputs[0]
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(cast, safe=True)
        value.name, value.shape = output.name, output.shape

    def _end_main(self, fixed: dict[ir.Value, ir.TypeProtocol | None]) -> None:
        """Restore the types of the graph's outputs, under their names."""
        graph = self.model.graph
        for index, value in enumerate(list(graph.outputs)):
            kind = fixed[value]
            if kind is None or value.dtype in {None, kind.dtype}:
                continue
            made = self._cast_at_end(graph, value, kind.dtype)
            value.name, made.name = self.edit.fresh(f"{value.name}_inner"), value.name
            graph.outputs[index] = made


def bodies(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs in a node's attributes."""
    graphs = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs.extend(attribute.as_graphs())
    return graphs
