"""Write a CastLike as the Cast that it is."""

import onnx_ir as ir

from workers.compression.graph.inference import infer
from workers.compression.graph.rewrites.splice import replace


def spell_out_castlike(model: ir.Model) -> int:
    """Replace every CastLike by a Cast, or by its input where that has the type already.

    1. A CastLike of a constant reads a second input that is computed, so that it cannot be folded;
       a Cast of a constant can.
    2. A CastLike to a type that inference does not find stays.
    """
    if not any(_is_castlike(node) for node in model.graph.all_nodes()):
        return 0
    infer(model)
    count = 0
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if not _is_castlike(node):
            continue
        source, like = node.inputs
        if source is None or like is None or like.dtype is None:
            continue
        if source.dtype == like.dtype:
            replace(node, [source])
        else:
            _cast(node, source, like.dtype)
        count += 1
    return count


def _is_castlike(node: ir.Node) -> bool:
    return node.op_type == "CastLike" and node.domain == ""


def _cast(node: ir.Node, source: ir.Value, dtype: ir.DataType) -> None:
    """Put a Cast in the place of a CastLike, under its name."""
    cast = ir.node("Cast", [source], {"to": dtype.value}, name=node.name)
    if (saturate := node.attributes.get("saturate")) is not None:
        cast.attributes["saturate"] = saturate
    cast.outputs[0].dtype = dtype
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, cast)
    replace(node, cast.outputs)
