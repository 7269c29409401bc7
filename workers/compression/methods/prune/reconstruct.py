"""Reconstruction: refits the layers of a pruned graph by least squares on data.

A layer that reads fewer channels gives different outputs. Its weights and bias are refitted so that
its outputs on calibration data approximate those of the original graph (ThiNet, Luo et al., ICCV
2017, with a ridge penalty towards the previous weights). Zeros of a sparse layer stay zero, or are
chosen again from the layer's inputs. Layers are fitted in order, each on the inputs that it has in
the pruned graph, so that later layers correct the errors of earlier ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import constant
from workers.compression.graph.operators import channel_axis, input_axis, is_layer, operand
from workers.compression.looking.positions import is_plain, read_at
from workers.compression.methods.prune.gradients import calibration
from workers.compression.methods.prune.groups import Analysis, Removed
from workers.compression.methods.prune.moments import POSITIONS, LayerMoments, Rows
from workers.compression.methods.prune.piecewise import PiecewiseRun
from workers.compression.methods.prune.zeros import Mask
from workers.compression.samples.context import Context

_SAMPLES = (16, 128)
"""The least and the greatest number of samples."""

_WORK = 4e11
"""Multiply-accumulates that the runs of both graphs together may take."""

_RIDGE = 0.02
"""The ridge penalty towards the previous weights, relative to the mean power of the inputs."""

_STEPS = 50
"""The greatest number of conjugate gradient steps, which are used where zeros must stay."""

_ENOUGH = 1e-8
"""The share of the initial squared error at which conjugate gradients stop."""

_TINY = 1e-30

_WIDEST = 4608
"""The greatest number of inputs, times the kernel's size, of a layer that is fitted."""


@dataclass(frozen=True)
class Fit:
    """A layer to fit: its nodes in the original and in the pruned graph."""

    original: ir.Node
    cut: ir.Node
    outputs: NDArray[np.int64]
    """The output channels of the original layer that are kept."""
    start: NDArray[Any]
    """The weight that the ridge penalty pulls to; it has the shape of the pruned layer's weight."""


Choose = Callable[[ir.Node, Rows, Rows, Mask], tuple[Mask, Rows]]
"""Chooses the weights of a layer that are kept. Arguments: the node, the best weights without
zeros, the second moments of the inputs, and the previous mask. Results: the mask, and the weights.
Weights and masks are ``[inputs and kernel, outputs]``."""


def reconstruct(
    original: ir.Model,
    smaller: ir.Model,
    analysis: Analysis,
    removed: Removed,
    context: Context,
    macs: float,
    advance: Callable[[float], None],
) -> None:
    """Fit the layers of a cut graph, in place.

    Args:
        original: the graph before the cut.
        smaller: the cut graph; the weights and biases of its layers change.
        analysis: the coupled units of the graph.
        removed: the removed units.
        context: data, seed, threads.
        macs: the multiply-accumulates of one sample, which bound the number of samples.
        advance: called with the fraction done.
    """
    fits = list(_fits(original, smaller, analysis, removed))
    _fit_all(original, smaller, fits, context, macs, advance)


def reconstruct_sparse(
    original: ir.Model,
    sparse: ir.Model,
    context: Context,
    macs: float,
    advance: Callable[[float], None],
    choose: Choose | None = None,
) -> None:
    """Fit the nonzero weights of a sparse graph, in place.

    Args:
        original: the graph before pruning.
        sparse: the same graph with zeros among its weights; they stay zero.
        context: data, seed, threads.
        macs: the multiply-accumulates of one sample, which bound the number of samples.
        advance: called with the fraction done.
        choose: chooses again which weights are kept; None keeps the weights that are not zero.
    """
    nodes = {node.name: node for node in sparse.graph}
    fits = []
    for node in original.graph:
        if is_layer(node) and _fittable(nodes[node.name]):
            weight = operand(node, 1)
            assert weight is not None
            count = constant(weight).shape[channel_axis(node) or 0]
            fits.append(Fit(node, nodes[node.name], np.arange(count), constant(weight)))
    _fit_all(original, sparse, fits, context, macs, advance, choose)


def _fit_all(
    original_model: ir.Model,
    smaller: ir.Model,
    fits: list[Fit],
    context: Context,
    macs: float,
    advance: Callable[[float], None],
    choose: Choose | None = None,
) -> None:
    most = int(np.clip(_WORK / max(2 * macs, 1), *_SAMPLES))
    samples = calibration(context, most)
    input_names = [_name(operand(fit.cut, 0)) for fit in fits]
    output_names = [_name(fit.original.outputs[0]) for fit in fits]
    smaller_run = PiecewiseRun(smaller, input_names, samples, context.threads)
    original_run = PiecewiseRun(original_model, output_names, samples, context.threads)
    for index, fit in enumerate(fits):
        moments = _observe(
            fit,
            smaller_run.compute(input_names[index]),
            original_run.compute(output_names[index]),
            context.seed,
        )
        if moments.finite():
            _solve(fit, moments, choose)
        advance((index + 1) / len(fits))


def _observe(
    fit: Fit, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]], seed: int
) -> LayerMoments:
    """Sum the pruned layer's inputs and the original layer's outputs over sampled positions."""
    random = np.random.default_rng(seed)
    positions = ceil(POSITIONS / len(inputs))
    pairs = zip(inputs, outputs, strict=False)  # the last runs may have been left out of one
    sampled = (_at_positions(fit.cut, x, y, positions, random) for x, y in pairs)
    rows, targets = next(sampled)
    moments = LayerMoments.of(rows, targets[:, fit.outputs])
    for rows, targets in sampled:
        moments.add(rows, targets[:, fit.outputs])
    return moments


def _at_positions(
    node: ir.Node, x: NDArray[Any], y: NDArray[Any], positions: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw positions of a layer's run; return what it reads there, and what it is to answer."""
    rows, places = read_at(node, x, positions, random)
    answers = np.moveaxis(y, 1, -1) if node.op_type == "Conv" else y.reshape(-1, y.shape[-1])
    return rows, answers[places]


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return str(value.name)


def _fits(
    original: ir.Model, smaller: ir.Model, analysis: Analysis, removed: Removed
) -> Iterator[Fit]:
    nodes = {node.name: node for node in smaller.graph}
    for node in original.graph:
        cut, data = nodes.get(node.name), operand(node, 0)
        if not is_layer(node) or cut is None or data is None or not _fittable(cut):
            continue
        axis = 1 if node.op_type == "Conv" else len(analysis.shapes[str(data.name)]) - 1
        kept = analysis.kept(str(data.name), axis, removed)
        if kept is None or kept.all():
            continue
        output = node.outputs[0]
        last = 1 if node.op_type == "Conv" else len(analysis.shapes[str(output.name)]) - 1
        stays = analysis.kept(str(output.name), last, removed)
        count = analysis.shapes[str(output.name)][last]
        outputs = np.arange(count) if stays is None else np.flatnonzero(stays)
        weight = operand(cut, 1)
        assert weight is not None
        yield Fit(node, cut, outputs, constant(weight))


def _fittable(node: ir.Node) -> bool:
    """Return whether a layer is a plain product whose weight and bias no other node reads."""
    data, weight, bias = operand(node, 0), operand(node, 1), operand(node, 2)
    constants = [value for value in (weight, bias) if value is not None]
    if data is None or data.is_initializer() or weight is None:
        return False
    if not all(v.is_initializer() and len(v.uses()) == 1 for v in constants):
        return False
    shape = constant(weight).shape
    if 0 in shape:
        return False
    get = node.attributes.get_float
    if node.op_type == "Conv":
        single = node.attributes.get_int("group", 1) == 1
        return is_plain(node) and single and int(np.prod(shape[1:])) <= _WIDEST
    if node.op_type == "Gemm":
        scaled = get("alpha", 1.0) != 1.0 or get("beta", 1.0) != 1.0
        vector = bias is None or constant(bias).ndim == 1
        return not scaled and is_plain(node) and vector
    return node.op_type == "MatMul" and len(shape) == 2 and shape[0] <= _WIDEST


def _solve(fit: Fit, moments: LayerMoments, choose: Choose | None) -> None:
    """Write the weight and bias with which a layer best approximates its target outputs."""
    weight, bias = operand(fit.cut, 1), operand(fit.cut, 2)
    assert weight is not None
    means = moments.means()
    x_mean, y_mean = means if bias is not None else map(np.zeros_like, means)
    second, cross = moments.centred_at(x_mean, y_mean)
    start = _columns(fit.cut, fit.start).astype(np.float64)
    error = cross - second @ start
    second[np.diag_indices_from(second)] += _RIDGE * max(np.trace(second) / len(second), 1e-12)
    best = start + np.linalg.solve(second, error)
    mask = _columns(fit.cut, constant(weight)) != 0
    if choose is not None or not mask.all():
        nearest_fit = best * mask
        if choose is not None:
            mask, nearest_fit = choose(fit.cut, best, second, mask)
        best = nearest_fit + _descend(second, second @ (best - nearest_fit), mask)
    _store(weight, best if _across(fit.cut) else best.T)
    if bias is not None:
        _store(bias, y_mean - x_mean @ best)


def _across(node: ir.Node) -> bool:
    """Return whether a layer's weight is ``[inputs, outputs]``."""
    return input_axis(node) in {0, -2}


def _columns(node: ir.Node, weight: NDArray[Any]) -> NDArray[Any]:
    """Return a layer's weight as ``[inputs and kernel, outputs]``."""
    return weight if _across(node) else weight.reshape(len(weight), -1).T


def _descend(second: Rows, error: Rows, free: NDArray[np.bool_]) -> Rows:
    """Solve ``second @ d = error`` in each column's free rows, by conjugate gradients."""
    solution = np.zeros_like(error)
    residual = error * free
    direction, power = residual, (residual**2).sum(axis=0)
    tolerance = _ENOUGH * power
    for _ in range(_STEPS):
        if (power <= tolerance).all():
            break
        image = (second @ direction) * free
        step = power / np.maximum((direction * image).sum(axis=0), _TINY)
        solution, residual = solution + step * direction, residual - step * image
        previous, power = power, (residual**2).sum(axis=0)
        direction = residual + power / np.maximum(previous, _TINY) * direction
    return solution


def _store(value: ir.Value, array: NDArray[np.float64]) -> None:
    old = constant(value)
    fresh = np.ascontiguousarray(array.reshape(old.shape).astype(old.dtype))
    value.const_value = ir.Tensor(fresh, name=value.name)
