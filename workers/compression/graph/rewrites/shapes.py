"""Infer types and shapes."""

import onnx_ir as ir

from workers.compression.graph.inference import infer


def infer_shapes(model: ir.Model) -> int:
    """Give every value its type and shape as far as they can be inferred.

    1. Dynamic dimensions stay symbols, under their names.
    2. Types and shapes that the file states for intermediate values are inferred again.
    3. Declared inputs and outputs keep their types and shapes.
    """
    infer(model)
    return sum(
        value.shape is not None
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        for value in node.outputs
    )
