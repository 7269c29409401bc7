"""Turn Constant nodes into initializers."""

import onnx_ir as ir
import onnx_ir.passes.common as passes


def lift_constants(model: ir.Model) -> int:
    """Turn every Constant node into an initializer of its graph.

    1. Constants of all kinds and sizes are lifted (``value``, ``value_int``, ``value_floats``…).
    2. One that is a graph output itself stays: an output needs a node.
    3. Names stay: the initializer has the name of the node's output.
    """
    before = _count(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return before - _count(model)


def _count(model: ir.Model) -> int:
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return sum(node.op_type == "Constant" for node in nodes)
