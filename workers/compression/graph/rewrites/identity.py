"""Remove nodes that pass their input on unchanged."""

import onnx_ir as ir
import onnx_ir.passes.common as passes


def remove_identities(model: ir.Model) -> int:
    """Remove Identity nodes.

    1. Users of the output read the input instead.
    2. Where the output is a graph's output, the producer's output takes its name.
    3. One between a graph's input or initializer and a graph's output stays: both names survive.
    """
    before = _count(model)
    passes.IdentityEliminationPass()(model)
    return before - _count(model)


def _count(model: ir.Model) -> int:
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return sum(node.op_type == "Identity" for node in nodes)
