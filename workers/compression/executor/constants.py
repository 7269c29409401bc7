"""Constants: values that are known before a graph runs."""

import onnx_ir as ir

from workers.compression.executor.node import Array


class Constants:
    """The arrays of initializers and of Constant nodes, each read once."""

    def __init__(self) -> None:
        self._arrays: dict[ir.Value, Array] = {}

    def array(self, value: ir.Value | None) -> Array | None:
        """Return a constant's elements; None if the value is missing or computed."""
        if value is None:
            return None
        if value not in self._arrays:
            tensor = tensor_of(value)
            if tensor is None:
                return None
            self._arrays[value] = tensor.numpy()
        return self._arrays[value]


def tensor_of(value: ir.Value) -> ir.TensorProtocol | None:
    """Return the tensor of an initializer or of a Constant node, None for any other value."""
    if value.is_initializer():
        return None if value.is_graph_input() else value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    attribute = next(iter(node.attributes.values()))
    name = attribute.name
    if name == "value":
        return attribute.as_tensor()
    if name in {"value_float", "value_floats"}:
        return ir.tensor(attribute.value, dtype=ir.DataType.FLOAT)
    if name in {"value_int", "value_ints"}:
        return ir.tensor(attribute.value, dtype=ir.DataType.INT64)
    return None
