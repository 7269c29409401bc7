"""Finds the node at which a converter, or the runtime of its format, gives up.

Programs have the label of the ONNX node beside each operation; see ``executor.plan.labelled``.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

_SECONDS = 120.0
"""In which beginnings of a program are tried."""
_ROUNDING = "quantized_decomposed"


def rounds(program: Any) -> bool:
    """Return whether a program rounds to integers."""
    return any(_ROUNDING in str(node.target) for node in program.graph.nodes)


def first_refused(program: Any, is_refused: Callable[[Any], bool]) -> str | None:
    """Return the node that ends the shortest beginning of a program that is refused.

    That is found by halves, so that what is before the node has been taken.

    Args:
        program: an exported program that is refused.
        is_refused: converts and runs a program; returns whether that is refused, and for the same
            reason: kernels that are missing are found before kernels that refuse.

    Returns:
        The node's label; None where it is not found in time, or no node is the reason.
    """
    until = time.monotonic() + _SECONDS
    cuts = _cuts(program.module(check_guards=False).graph)
    if not cuts or not is_refused(_beginning(program, cuts[-1][1])):
        return None
    taken, refused = -1, len(cuts) - 1
    while refused - taken > 1:
        middle = (taken + refused) // 2
        if time.monotonic() > until:
            return None
        if is_refused(_beginning(program, cuts[middle][1])):
            refused = middle
        else:
            taken = middle
    return cuts[refused][0]


def _cuts(graph: Any) -> list[tuple[str, int]]:
    """Return the nodes of the ONNX graph that a program can end with, and the places of its ends.

    They are in the order of these places.
    """
    from workers.compression.faults import label_of

    nodes = list(graph.nodes)
    last = {label: place for place, node in enumerate(nodes) if (label := label_of(node))}
    whole = max(last.values(), default=0)
    return [
        (label, place)
        for label, place in sorted(last.items(), key=lambda cut: cut[1])
        if place == whole or nodes[place] in _given(nodes, place)
    ]


def _given(nodes: list[Any], place: int) -> list[Any]:
    """Return what is computed up to a place and read behind it, but for what is rounded."""
    behind = set(nodes[place + 1 :])
    return [
        node
        for node in nodes[: place + 1]
        if node.op == "call_function"
        and isinstance(node.meta.get("val"), torch.Tensor)
        and _ROUNDING not in str(node.target)
        and behind & set(node.users)
    ]


def _beginning(program: Any, place: int) -> Any:
    """Return a program's beginning as a program of its own."""
    module = program.module(check_guards=False)
    graph, nodes = module.graph, list(module.graph.nodes)
    given = _given(nodes, place)
    for node in reversed(nodes[place + 1 :]):
        if node.op == "output":
            node.args = (tuple(given),)
        elif node.op == "call_function":
            graph.erase_node(node)
    graph.set_codegen(torch.fx.graph.CodeGen())
    graph.eliminate_dead_code()
    module.recompile()
    return torch.export.export(module, program.example_inputs[0], strict=False)
