"""Idioms that exporters spell out in several nodes and that torch computes in one."""

from collections.abc import Iterable

import onnx_ir as ir

from workers.compression.executor.fusions.affine import affine
from workers.compression.executor.fusions.attention import attention
from workers.compression.executor.fusions.fake import fake
from workers.compression.executor.fusions.idiom import Fusion, Surroundings
from workers.compression.executor.fusions.parts import parts

_IDIOMS = (fake, affine, attention)

__all__ = ["Fusion", "find"]


def find(graph: ir.Graph, wanted: Iterable[ir.Value]) -> dict[ir.Node, Fusion]:
    """Return the idioms of a graph by the nodes that they stand for.

    Args:
        graph: not changed.
        wanted: values that are returned.
    """
    around = Surroundings(frozenset(wanted))
    found = parts(graph)
    for node in graph:
        fusions = (idiom(node, around) for idiom in _IDIOMS)
        fusion = next((each for each in fusions if each is not None), None)
        if fusion is not None:
            found[node] = fusion
    return found
