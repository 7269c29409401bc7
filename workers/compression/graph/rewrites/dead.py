"""Remove nodes and initializers that no output depends on."""

import onnx_ir as ir
import onnx_ir.passes.common as passes


def remove_dead(model: ir.Model) -> int:
    """Remove nodes, initializers and operator-set imports that nothing uses.

    1. Graph inputs stay, used or not: the interface survives.
    2. A node stays when any of its outputs is used.
    3. The same holds for subgraphs. (onnx_ir's pass leaves their
       initializers: the weights that constants were folded from.)
    """
    before = _size(model)
    passes.RemoveUnusedNodesPass()(model)
    for graph in model.graphs():
        interface = {*graph.inputs, *graph.outputs}
        for name, value in list(graph.initializers.items()):
            if not value.uses() and value not in interface:
                del graph.initializers[name]
    passes.RemoveUnusedOpsetsPass()(model)
    return before - _size(model)


def _size(model: ir.Model) -> int:
    return sum(1 for _ in ir.traversal.RecursiveGraphIterator(model.graph)) + sum(
        len(graph.initializers) for graph in model.graphs()
    )
