"""Replace an If by the branch that is always taken."""

import onnx_ir as ir
import onnx_ir.passes.common as passes

from workers.compression.graph.rewrites.fold import fold_constants
from workers.compression.graph.rewrites.splice import constant_of, replace, splice

_ROUNDS = 10


def inline_branches(model: ir.Model) -> int:
    """Inline every If whose condition is a constant, once constants are folded, nested ones too.

    1. The branch's nodes keep their names, with a number behind those that occur twice.
    2. The If's outputs keep their names.

    Left alone: an If whose condition depends on an input or on a dynamic dimension.
    """
    inlined = 0
    for _ in range(_ROUNDS):
        nodes = [
            node
            for node in ir.traversal.RecursiveGraphIterator(model.graph)
            if node.op_type == "If" and node.domain == ""
        ]
        if nodes:
            fold_constants(model)
        chosen = [(node, constant_of(node.inputs[0])) for node in nodes]
        decided = [(node, condition) for node, condition in chosen if condition is not None]
        for node, condition in decided:
            branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
            replace(node, splice(branch, node, []))
        inlined += len(decided)
        if not decided:
            break
    if inlined:
        passes.NameFixPass()(model)
    return inlined
