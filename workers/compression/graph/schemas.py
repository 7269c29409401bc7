"""What the operators' own schemas say of types: onnx's, and onnxruntime's for its domains."""

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
        """The types that it may have, such as ``tensor(float)`` and ``seq(tensor(float))``."""


class Schema(Protocol):
    """What is read of an operator's schema."""

    @property
    def inputs(self) -> Sequence[Parameter]:
        """The last one may stand for any number."""

    @property
    def outputs(self) -> Sequence[Parameter]:
        """The last one may stand for any number."""

    @property
    def attributes(self) -> Collection[str]:
        """The names of the attributes."""


def schema_of(node: ir.Node, opset: int) -> Schema | None:
    """Return the schema of a node's operator, None for one that neither library declares.

    Args:
        node: whose operator.
        opset: the version of its domain that the graph imports.
    """
    try:
        schema: Schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return _of_runtime().get((node.domain, node.op_type))
    return schema


@cache
def _of_runtime() -> dict[tuple[str, str], Schema]:
    """Return the newest schemas that onnxruntime has, by domain and name."""
    every = sorted(runtime.get_all_operator_schema(), key=lambda each: int(each.since_version))
    return {(each.domain, each.name): each for each in every}


def allows(parameters: Sequence[Parameter], slot: int, kind: ir.TypeProtocol) -> bool:
    """Return whether a schema's parameters let a slot have a type."""
    if not parameters:
        return False
    return type_name(kind) in parameters[min(slot, len(parameters) - 1)].types


def type_name(kind: ir.TypeProtocol) -> str:
    """Return the name that schemas give a type."""
    if isinstance(kind, ir.SequenceType):
        return f"seq({type_name(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_name(kind.elem_type)})"
    return f"tensor({_NAMES.get(kind.dtype, kind.dtype.name.lower())})"


_NAMES = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}
