"""Reads allowed types from operator schemas: onnx's, and onnxruntime's for its domains."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Protocol

import onnx
import onnx_ir as ir
from onnxruntime.capi import onnxruntime_pybind11_state as runtime


class Parameter(Protocol):
    """An input or output as a schema declares it."""

    name: str

    @property
    def types(self) -> Collection[str]:
        """The allowed types, such as ``tensor(float)`` and ``seq(tensor(float))``."""


class Schema(Protocol):
    """The used part of an operator's schema."""

    @property
    def inputs(self) -> Sequence[Parameter]:
        """The inputs; the last one may be variadic."""

    @property
    def outputs(self) -> Sequence[Parameter]:
        """The outputs; the last one may be variadic."""

    @property
    def attributes(self) -> Collection[str]:
        """The names of the attributes."""


def schema_of(node: ir.Node, opset: int) -> Schema | None:
    """Return the schema of a node's operator, None for one that neither library declares.

    Args:
        node: the node.
        opset: the imported version of its domain.
    """
    try:
        schema: Schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return _of_runtime().get((node.domain, node.op_type))
    return schema


@cache
def _of_runtime() -> dict[tuple[str, str], Schema]:
    """Return the newest schemas of onnxruntime, by domain and name."""
    schemas = sorted(
        runtime.get_all_operator_schema(), key=lambda schema: int(schema.since_version)
    )
    return {(schema.domain, schema.name): schema for schema in schemas}


def output_type(node: ir.Node, slot: int, opset: int) -> ir.TypeProtocol | None:
    """Return the type of a node's output as far as its schema tells it; None where it does not.

    It is the one type that the schema allows, or that of an input that must have the same.

    Args:
        node: the node, its inputs typed.
        slot: the position of the output.
        opset: the imported version of its domain.
    """
    schema = schema_of(node, opset)
    if schema is None or not schema.outputs:
        return None
    output = schema.outputs[min(slot, len(schema.outputs) - 1)]
    if len(output.types) == 1:
        return _TENSORS.get(next(iter(output.types)))
    for index, value in enumerate(node.inputs if schema.inputs else ()):
        declared = schema.inputs[min(index, len(schema.inputs) - 1)]
        if value is not None and value.type and _variable(declared) == _variable(output):
            return value.type
    return None


def _variable(parameter: Parameter) -> str:
    """Return the name of a parameter's type, which onnx and onnxruntime spell in two ways."""
    return str(getattr(parameter, "type_str", None) or getattr(parameter, "typeStr", ""))


def allows(parameters: Sequence[Parameter], slot: int, kind: ir.TypeProtocol) -> bool:
    """Return whether a schema allows a type at a position of its inputs or outputs."""
    if not parameters:
        return False
    return type_name(kind) in parameters[min(slot, len(parameters) - 1)].types


def type_name(kind: ir.TypeProtocol) -> str:
    """Return the name of a type in schemas."""
    if isinstance(kind, ir.SequenceType):
        return f"seq({type_name(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_name(kind.elem_type)})"
    return f"tensor({_NAMES.get(kind.dtype, kind.dtype.name.lower())})"


_NAMES = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}

_TENSORS = {type_name(kind): kind for kind in map(ir.TensorType, ir.DataType)}
