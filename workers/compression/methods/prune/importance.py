"""Scores the importance of units; scores are comparable within a group, and between groups.

A unit's score combines its indices in all weights that have the unit. A weight that writes a
channel has it on its output axis; a weight that reads it has it on its input axis.
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
"""The score of each unit of the analysis; 0 for a unit in no group."""

_TINY = 1e-12


@dataclass(frozen=True)
class Weights:
    """The weights of layers as arrays, and the output axis of each, by initializer."""

    arrays: dict[str, NDArray[np.float32]]
    written: dict[str, int]


def layer_weights(model: ir.Model) -> Weights:
    """Return the weights of a graph's layers."""
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


def magnitude(weights: Weights, analysis: Analysis, norm: str) -> Scores:
    """Score by the norm of all weights that have a unit (Li et al. 2017; DepGraph).

    Args:
        weights: the weights.
        analysis: the coupled units of the graph.
        norm: ``l1``, or ``l2`` for squares.
    """
    power = 1 if norm == "l1" else 2

    def of(place: Place) -> Scores:
        return _over_others(np.abs(weights.arrays[place.value]) ** power, place.axis)

    return _gather(analysis, weights, of)


def fpgm(weights: Weights, analysis: Analysis) -> Scores:
    """Score by the distance to all other filters: a filter near the median is redundant.

    He et al., "Filter Pruning via Geometric Median", CVPR 2019.
    """

    def of(place: Place) -> Scores:
        array = np.moveaxis(weights.arrays[place.value], place.axis, 0)
        flat = array.reshape(len(array), -1).astype(np.float64)
        squares = (flat**2).sum(axis=1)
        distances = squares[:, None] + squares[None] - 2 * flat @ flat.T
        return np.asarray(np.sqrt(np.maximum(distances, 0)).sum(axis=1))

    return _gather(analysis, weights, of, written=True)


def bn_scale(weights: Weights, analysis: Analysis, model: ir.Model) -> Scores:
    """Score by a normalisation's scale (Liu et al., "Network Slimming", ICCV 2017).

    In normal form most scales are folded into the preceding weights. The norm of those weights
    contains the scale as a factor and replaces it.
    """
    scales: dict[str, NDArray[np.float32]] = {}
    for node in model.graph:
        scale = operand(node, 1) if node.op_type.endswith("Normalization") else None
        if scale is not None and scale.const_value is not None:
            scales[str(scale.name)] = np.abs(constant(scale).astype(np.float32))
    scores = magnitude_written(weights, analysis)
    for group in analysis.groups:
        scale_places = [place for place in group.places if place.value in scales]
        if scale_places:
            scores[group.units] = np.mean(
                [per_unit(group, place, analysis, scales[place.value]) for place in scale_places],
                axis=0,
            )
    return scores


def magnitude_written(weights: Weights, analysis: Analysis) -> Scores:
    """Score by the norm of the filters that write a unit."""

    def of(place: Place) -> Scores:
        return np.sqrt(_over_others(weights.arrays[place.value] ** 2, place.axis))

    return _gather(analysis, weights, of, written=True)


def lamp(scores: Scores, analysis: Analysis) -> Scores:
    """Divide each squared score by the sum of the scores in its group that are not smaller.

    Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021.
    """
    result = np.zeros_like(scores)
    for group in analysis.groups:
        result[group.units] = layer_adaptive(scores[group.units])
    return result


def layer_adaptive(squares: NDArray[Any]) -> NDArray[np.float64]:
    """Return the LAMP scores of the squared weights, or norms, of one layer; any shape."""
    flat = squares.reshape(-1).astype(np.float64)
    order = np.argsort(flat)
    sums_of_larger = np.cumsum(flat[order][::-1])[::-1]
    result = np.empty_like(flat)
    result[order] = flat[order] / np.maximum(sums_of_larger, _TINY)
    return result.reshape(squares.shape)


def normalized(scores: Scores, analysis: Analysis) -> Scores:
    """Divide by each group's mean, so that scores are comparable between groups."""
    result = np.zeros_like(scores)
    for group in analysis.groups:
        group_scores = scores[group.units]
        result[group.units] = group_scores / max(float(group_scores.mean()), _TINY)
    return result


def random(analysis: Analysis, seed: int) -> Scores:
    """Score at random: the baseline."""
    return np.random.default_rng(seed).random(analysis.units)


def written_places(group: Group, weights: Weights) -> Iterator[Place]:
    """Yield the places of a group where a weight writes its channels."""
    yield from (p for p in group.places if weights.written.get(p.value) == p.axis)


def _gather(
    analysis: Analysis, weights: Weights, of: Callable[[Place], Scores], *, written: bool = False
) -> Scores:
    """Return scores: ``of`` scores the indices of a place, and a group's places are averaged."""
    scores = np.zeros(analysis.units, np.float64)
    for group in analysis.groups:
        places = [p for p in group.places if p.value in weights.arrays]
        if written:
            places = list(written_places(group, weights)) or places
        parts = [per_unit(group, place, analysis, of(place)) for place in places]
        if parts:
            scores[group.units] = np.mean(parts, axis=0)
    return scores


def per_unit(group: Group, place: Place, analysis: Analysis, values: NDArray[Any]) -> Scores:
    """Sum the values of a place's indices for each unit of a group."""
    rows = analysis.rows[place.value][place.axis]
    assert rows is not None
    sums = np.zeros(analysis.units + 1, np.float64)
    for layer in rows.T:
        np.add.at(sums, layer, values)
    return sums[group.units]


def _over_others(array: NDArray[Any], axis: int) -> Scores:
    other_axes = tuple(a for a in range(array.ndim) if a != axis)
    return np.asarray(array.sum(axis=other_axes, dtype=np.float64))
