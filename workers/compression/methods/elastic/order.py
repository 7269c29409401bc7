"""Puts the channels of layers in order, the most important first; the graph computes the same."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import equivalence, runtime
from workers.compression.graph.editor import constant
from workers.compression.methods.prune.groups import Analysis, Group
from workers.compression.methods.prune.importance import Scores

Moves = NDArray[np.int64]
"""For each unit, the unit whose place it takes; the last element stands for 'no unit'."""


def in_order(
    model: ir.Model,
    analysis: Analysis,
    scores: Scores,
    feeds: Mapping[str, NDArray[Any]],
) -> ir.Model:
    """Return a copy in which the most important unit of each group comes first (Cai et al. 2020).

    A group whose order cannot be changed without changing the outputs stays as it is.

    Args:
        model: the graph; not changed.
        analysis: the coupled units of the graph.
        scores: the importance of each unit.
        feeds: the inputs that the copy is proved on.
    """
    expected = runtime.run(runtime.session_of(model), feeds)

    def same(groups: list[Group]) -> ir.Model | None:
        copy = _permuted(model, analysis, _moves(groups, analysis, scores))
        actual = runtime.run(runtime.session_of(copy), feeds)
        return None if equivalence.difference(expected, actual) else copy

    if (copy := same(analysis.groups)) is not None:
        return copy
    sound = [group for group in analysis.groups if same([group]) is not None]
    return same(sound) or model.clone()


def _moves(groups: list[Group], analysis: Analysis, scores: Scores) -> Moves:
    moves = np.arange(analysis.units + 1)
    moves[-1] = -1
    for group in groups:
        moves[group.units] = group.units[np.argsort(-scores[group.units], kind="stable")]
    return moves


def _permuted(model: ir.Model, analysis: Analysis, moves: Moves) -> ir.Model:
    copy = model.clone()
    for value in copy.graph.initializers.values():
        dimensions = analysis.rows.get(str(value.name))
        if dimensions is None:
            continue
        array = constant(value)
        for axis, units in enumerate(dimensions):
            if units is not None:
                array = array.take(_sources(units, moves), axis=axis)
        value.const_value = ir.Tensor(np.ascontiguousarray(array), name=value.name)
    return copy


def _sources(units: NDArray[np.int64], moves: Moves) -> NDArray[np.int64]:
    """Return, for each index of a dimension, the index whose content moves there.

    An index is known by its units. Where several have the same units, they keep their order.

    Args:
        units: the units of each index, ``[size, depth]``, -1 for none.
        moves: where units go.
    """
    wanted = moves[units]
    here, there = (
        np.lexsort((np.arange(len(rows)), *rows.T[::-1]))
        for rows in (np.sort(wanted, axis=1), np.sort(units, axis=1))
    )
    sources = np.empty(len(units), np.int64)
    sources[here] = there
    return sources
