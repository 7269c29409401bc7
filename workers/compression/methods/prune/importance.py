"""How much a unit contributes: one number each, comparable within its group, and between groups.

A unit's score gathers what its indices have in every weight that it runs through. Weights that
write a channel have it on their output axis, those that read it on an input axis.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import constant
from workers.compression.graph.operators import channel_axis, is_layer, operand
from workers.compression.methods.prune.groups import Analysis, Group, Place

Scores = NDArray[np.float64]
"""For each unit of the analysis; those in no group have none (0)."""

_TINY = 1e-12


@dataclass(frozen=True)
class Weights:
    """The arrays that a criterion looks at, by initializer, and which axis each is written on."""

    arrays: dict[str, NDArray[np.float32]]
    written: dict[str, int]


def weights(model: ir.Model) -> Weights:
    """Collect the weights of layers."""
    arrays, written = {}, {}
    for node in model.graph:
        value = operand(node, 1) if is_layer(node) else None
        if value is None or value.const_value is None or value.dtype is None:
            continue
        if value.dtype.is_floating_point() and value.is_initializer():
            array = constant(value).astype(np.float32)
            arrays[str(value.name)] = array
            written[str(value.name)] = (channel_axis(node) or 0) % array.ndim
    return Weights(arrays, written)


def magnitude(found: Weights, analysis: Analysis, norm: str) -> Scores:
    """Score by the norm of all weights that a unit runs through (Li et al. 2017; DepGraph).

    Args:
        found: the weights.
        analysis: what hangs together.
        norm: ``l1``, or ``l2`` for squares.
    """
    power = 1 if norm == "l1" else 2

    def of(place: Place) -> Scores:
        return _over_others(np.abs(found.arrays[place.value]) ** power, place.axis)

    return _gather(analysis, found, of)


def fpgm(found: Weights, analysis: Analysis) -> Scores:
    """Score by the distance to all other filters: what lies in the middle is redundant.

    He et al., "Filter Pruning via Geometric Median", CVPR 2019.
    """

    def of(place: Place) -> Scores:
        array = np.moveaxis(found.arrays[place.value], place.axis, 0)
        flat = array.reshape(len(array), -1).astype(np.float64)
        squares = (flat**2).sum(axis=1)
        distances = squares[:, None] + squares[None] - 2 * flat @ flat.T
        return np.asarray(np.sqrt(np.maximum(distances, 0)).sum(axis=1))

    return _gather(analysis, found, of, written=True)


def bn_scale(found: Weights, analysis: Analysis, model: ir.Model) -> Scores:
    """Score by a normalisation's scale (Liu et al., "Network Slimming", ICCV 2017).

    In normal form most are folded into the weights before them: those weights' norm holds the
    scale as a factor and stands in for it.
    """
    scales: dict[str, NDArray[np.float32]] = {}
    for node in model.graph:
        scale = operand(node, 1) if node.op_type.endswith("Normalization") else None
        if scale is not None and scale.const_value is not None:
            scales[str(scale.name)] = np.abs(constant(scale).astype(np.float32))
    scores = magnitude_written(found, analysis)
    for group in analysis.groups:
        own = [place for place in group.places if place.value in scales]
        if own:
            scores[group.units] = np.mean(
                [per_unit(group, place, analysis, scales[place.value]) for place in own], axis=0
            )
    return scores


def magnitude_written(found: Weights, analysis: Analysis) -> Scores:
    """Score by the norm of the filters that write a unit."""

    def of(place: Place) -> Scores:
        return np.sqrt(_over_others(found.arrays[place.value] ** 2, place.axis))

    return _gather(analysis, found, of, written=True)


def lamp(scores: Scores, analysis: Analysis) -> Scores:
    """Divide each squared score by the sum of those that are not smaller in its group.

    Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021.
    """
    found = np.zeros_like(scores)
    for group in analysis.groups:
        found[group.units] = layer_adaptive(scores[group.units])
    return found


def layer_adaptive(squares: NDArray[Any]) -> NDArray[np.float64]:
    """Return LAMP scores of the squared weights, or norms, of one layer (any shape)."""
    flat = squares.reshape(-1).astype(np.float64)
    order = np.argsort(flat)
    rest = np.cumsum(flat[order][::-1])[::-1]
    found = np.empty_like(flat)
    found[order] = flat[order] / np.maximum(rest, _TINY)
    return found.reshape(squares.shape)


def normalized(scores: Scores, analysis: Analysis) -> Scores:
    """Divide by each group's mean, so that groups of any scale compete."""
    found = np.zeros_like(scores)
    for group in analysis.groups:
        own = scores[group.units]
        found[group.units] = own / max(float(own.mean()), _TINY)
    return found


def random(analysis: Analysis, seed: int) -> Scores:
    """Score at random: the control."""
    return np.random.default_rng(seed).random(analysis.units)


def written_places(group: Group, found: Weights) -> Iterator[Place]:
    """Yield the places of a group where a weight writes its channels."""
    yield from (p for p in group.places if found.written.get(p.value) == p.axis)


def _gather(
    analysis: Analysis, found: Weights, of: Callable[[Place], Scores], *, written: bool = False
) -> Scores:
    """Average over the places of each group what ``of`` says of their indices."""
    scores = np.zeros(analysis.units, np.float64)
    for group in analysis.groups:
        places = [p for p in group.places if p.value in found.arrays]
        if written:
            places = list(written_places(group, found)) or places
        parts = [per_unit(group, place, analysis, of(place)) for place in places]
        if parts:
            scores[group.units] = np.mean(parts, axis=0)
    return scores


def per_unit(group: Group, place: Place, analysis: Analysis, values: NDArray[Any]) -> Scores:
    """Sum a number for each index of a place over the indices of each unit of a group."""
    rows = analysis.rows[place.value][place.axis]
    assert rows is not None
    sums = np.zeros(analysis.units + 1, np.float64)
    for layer in rows.T:
        np.add.at(sums, layer, values)
    return sums[group.units]


def _over_others(array: NDArray[Any], axis: int) -> Scores:
    others = tuple(a for a in range(array.ndim) if a != axis)
    return np.asarray(array.sum(axis=others, dtype=np.float64))
