"""Idioms: groups of nodes that exporters write and that one torch function computes."""

from collections.abc import Iterable

import onnx_ir as ir

from workers.compression.executor.fusions.affine import affine
from workers.compression.executor.fusions.attention import attention
from workers.compression.executor.fusions.fake import fake
from workers.compression.executor.fusions.idiom import Fusion, MatchContext
from workers.compression.executor.fusions.parts import parts

_IDIOMS = (fake, affine, attention)

__all__ = ["Fusion", "find"]


def find(graph: ir.Graph, returned: Iterable[ir.Value]) -> dict[ir.Node, Fusion]:
    """Return the fusion of each idiom of a graph, by the node that it replaces.

    Args:
        graph: the graph; not changed.
        returned: the values that the compiled graph returns.
    """
    context = MatchContext(frozenset(returned))
    fusions = parts(graph)
    for node in graph:
        matches = (idiom(node, context) for idiom in _IDIOMS)
        fusion = next((match for match in matches if match is not None), None)
        if fusion is not None:
            fusions[node] = fusion
    return fusions
