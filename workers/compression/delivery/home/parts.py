"""How one weight stands in a constant: which of its elements, in which order.

A part is described by the positions of its elements in the flattened constant. So a weight that is
turned, or whose gates stand in another order, is nothing special.
"""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.operators import operator_of

Array = NDArray[Any]
Positions = NDArray[np.int64]
View = Callable[[Array], Array]
"""From an array to the same elements in another order."""

_TURNS: dict[int, tuple[tuple[int, ...], ...]] = {
    4: ((0, 1, 2, 3), (3, 2, 0, 1), (2, 3, 0, 1), (1, 0, 2, 3)),
    5: ((0, 1, 2, 3, 4), (4, 3, 0, 1, 2)),
}
"""By rank: as torch has a kernel; as Keras has one of a convolution, and of a depthwise one."""

_MOST_AXES = 5

_GATES: dict[str, tuple[tuple[int, ...], ...]] = {
    "LSTM": ((0, 2, 3, 1), (0, 1, 2, 3)),
    "GRU": ((0, 1, 2), (1, 0, 2)),
    "RNN": ((0,),),
}
"""The orders in which frameworks have the gates, as positions among those of ONNX. torch and Keras
have the LSTM's output gate last; torch has the GRU's reset gate first."""


def views_of(rank: int) -> Iterator[View]:
    """Yield the ways in which a graph may have turned a weight of this rank."""
    if rank > _MOST_AXES:
        yield lambda array: array
        return
    for turn in _TURNS.get(rank) or permutations(range(rank)):
        yield lambda array, turn=turn: array.transpose(turn)  # type: ignore[misc]


def parts_of(node: ir.Node, slot: int, shape: tuple[int, ...]) -> Iterator[list[list[Positions]]]:
    """Yield what the parts of a constant may be that are one weight each.

    Args:
        node: what reads the constant.
        slot: where it does.
        shape: of the constant.

    Yields:
        For each piece of the constant the ways to see it: a list of parts, of positions in the
        flattened constant, in the shape of the part.
    """
    positions = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    orders = _GATES.get(node.op_type)
    if orders is None or not is_learned(node, slot):
        yield [[positions]]
        return
    for direction in positions:
        if direction.ndim > 1:
            yield [[_reordered(direction, order)] for order in orders]
            continue
        halves = [[_reordered(half, order) for half in np.split(direction, 2)] for order in orders]
        yield [*([np.stack(both)] for both in halves), *halves]


def is_learned(node: ir.Node, slot: int) -> bool:
    """Return whether an operator has a weight or a bias at a place."""
    operator = operator_of(node)
    return operator is not None and slot in (
        *operator.weights,
        *operator.biases,
        *operator.measured,
    )


def _reordered(array: Positions, order: tuple[int, ...]) -> Positions:
    gates = np.split(array, len(order))
    return np.concatenate([gates[gate] for gate in order])
