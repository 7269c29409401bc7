"""Fit the layers that read a cut to what is left, by least squares on data.

A layer that reads fewer channels gives other outputs. Its weights and bias are moved so that on
calibration data they are near those of the whole graph again (ThiNet, Luo et al., ICCV 2017, with
the solution drawn to the weights that there were). Zeros of a sparse layer stay zero, or are chosen
anew once it is known what the layer reads. Layers are fitted in order, each on inputs that the
changed graph really gives it, so that errors of earlier layers are made good by later ones.
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
from workers.compression.methods.prune.gradients import calibration
from workers.compression.methods.prune.groups import Analysis, Removed
from workers.compression.methods.prune.moments import POSITIONS, LayerMoments, Rows, look
from workers.compression.methods.prune.walk import Walk
from workers.compression.methods.prune.zeros import Mask
from workers.compression.samples.context import Context

_SAMPLES = (16, 128)
"""Samples, at least and at most."""

_WORK = 4e11
"""Multiply-accumulates that both graphs together may take."""

_RIDGE = 0.02
"""How strongly weights are drawn to what they were, against the inputs' mean power."""

_STEPS = 50
"""Of conjugate gradients, where zeros must stay."""

_ENOUGH = 1e-8
"""Of the squared error that they begin with, what they may leave."""

_TINY = 1e-30

_WIDEST = 4608
"""Inputs, the kernel included, up to which a layer is fitted."""


@dataclass(frozen=True)
class Fit:
    """A layer of both graphs."""

    whole: ir.Node
    cut: ir.Node
    outputs: NDArray[np.int64]
    """The channels of the whole layer that the cut one still has."""
    start: NDArray[Any]
    """What the weight is drawn to, of the cut one's shape."""


Choose = Callable[[ir.Node, Rows, Rows, Mask], tuple[Mask, Rows]]
"""Chooses what stays of a layer: from its node, the best weights without zeros, the moments of its
inputs, and what stays already, to what stays and the weights then. Weights and masks are
``[inputs and kernel, outputs]``."""


def reconstruct(
    whole: ir.Model,
    smaller: ir.Model,
    analysis: Analysis,
    removed: Removed,
    context: Context,
    macs: float,
    advance: Callable[[float], None],
) -> None:
    """Fit the layers of a cut graph, in place.

    Args:
        whole: the graph before the cut.
        smaller: after it; weights and biases of layers change.
        analysis: what hangs together.
        removed: what was removed.
        context: data, seed, threads.
        macs: of one sample, which bound how many are looked at.
        advance: told the fraction done.
    """
    fits = list(_fits(whole, smaller, analysis, removed))
    _fit_all(whole, smaller, fits, context, macs, advance)


def reconstruct_sparse(
    whole: ir.Model,
    sparse: ir.Model,
    context: Context,
    macs: float,
    advance: Callable[[float], None],
    choose: Choose | None = None,
) -> None:
    """Fit what is not zero in a graph whose weights have zeros, in place.

    Args:
        whole: the graph before.
        sparse: the same graph with zeros; they stay.
        context: data, seed, threads.
        macs: of one sample, which bound how many are looked at.
        advance: told the fraction done.
        choose: says which weights stay, once it is known what a layer reads; without, those that
            are not zero.
    """
    nodes = {node.name: node for node in sparse.graph}
    fits = []
    for node in whole.graph:
        if is_layer(node) and _fittable(nodes[node.name]):
            weight = operand(node, 1)
            assert weight is not None
            count = constant(weight).shape[channel_axis(node) or 0]
            fits.append(Fit(node, nodes[node.name], np.arange(count), constant(weight)))
    _fit_all(whole, sparse, fits, context, macs, advance, choose)


def _fit_all(
    whole: ir.Model,
    smaller: ir.Model,
    fits: list[Fit],
    context: Context,
    macs: float,
    advance: Callable[[float], None],
    choose: Choose | None = None,
) -> None:
    most = int(np.clip(_WORK / max(2 * macs, 1), *_SAMPLES))
    samples = calibration(context, most)
    read = [_name(operand(fit.cut, 0)) for fit in fits]
    given = [_name(fit.whole.outputs[0]) for fit in fits]
    cut = Walk(smaller, read, samples, context.threads)
    original = Walk(whole, given, samples, context.threads)
    for index, fit in enumerate(fits):
        moments = _observe(fit, cut.to(read[index]), original.to(given[index]), context.seed)
        if moments.finite():
            _solve(fit, moments, choose)
        advance((index + 1) / len(fits))


def _observe(
    fit: Fit, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]], seed: int
) -> LayerMoments:
    """Look at what the cut layer reads in each run, and at what the whole one gives there."""
    random = np.random.default_rng(seed)
    each = ceil(POSITIONS / len(inputs))
    pairs = zip(inputs, outputs, strict=False)  # the last runs may have been left out of one
    looks = (look(fit.cut, x, y, each, random) for x, y in pairs)
    rows, answers = next(looks)
    moments = LayerMoments.of(rows, answers[:, fit.outputs])
    for rows, answers in looks:
        moments.add(rows, answers[:, fit.outputs])
    return moments


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return str(value.name)


def _fits(
    whole: ir.Model, smaller: ir.Model, analysis: Analysis, removed: Removed
) -> Iterator[Fit]:
    nodes = {node.name: node for node in smaller.graph}
    for node in whole.graph:
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
    """Return whether a layer is a plain product whose weight and bias are its own."""
    data, weight, bias = operand(node, 0), operand(node, 1), operand(node, 2)
    own = [value for value in (weight, bias) if value is not None]
    if data is None or data.is_initializer() or weight is None:
        return False
    if not all(v.is_initializer() and len(v.uses()) == 1 for v in own):
        return False
    shape = constant(weight).shape
    get = node.attributes.get_float
    if node.op_type == "Conv":
        plain = node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        single = node.attributes.get_int("group", 1) == 1
        return len(shape) == 4 and plain and single and int(np.prod(shape[1:])) <= _WIDEST
    if node.op_type == "Gemm":
        scaled = get("alpha", 1.0) != 1.0 or get("beta", 1.0) != 1.0
        vector = bias is None or constant(bias).ndim == 1
        return not scaled and not node.attributes.get_int("transA", 0) and vector
    return node.op_type == "MatMul" and len(shape) == 2 and shape[0] <= _WIDEST


def _solve(fit: Fit, moments: LayerMoments, choose: Choose | None) -> None:
    """Write the weight and bias that bring a layer nearest to what it should give."""
    weight, bias = operand(fit.cut, 1), operand(fit.cut, 2)
    assert weight is not None
    means = moments.means()
    x_mean, y_mean = means if bias is not None else map(np.zeros_like, means)
    second, wanted = moments.around(x_mean, y_mean)
    start = _columns(fit.cut, fit.start).astype(np.float64)
    error = wanted - second @ start
    second[np.diag_indices_from(second)] += _RIDGE * max(np.trace(second) / len(second), 1e-12)
    best = start + np.linalg.solve(second, error)
    kept = _columns(fit.cut, constant(weight)) != 0
    if choose is not None or not kept.all():
        near = best * kept
        if choose is not None:
            kept, near = choose(fit.cut, best, second, kept)
        best = near + _descend(second, second @ (best - near), kept)
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
    found = np.zeros_like(error)
    rest = error * free
    direction, power = rest, (rest**2).sum(axis=0)
    enough = _ENOUGH * power
    for _ in range(_STEPS):
        if (power <= enough).all():
            break
        ahead = (second @ direction) * free
        length = power / np.maximum((direction * ahead).sum(axis=0), _TINY)
        found, rest = found + length * direction, rest - length * ahead
        before, power = power, (rest**2).sum(axis=0)
        direction = rest + power / np.maximum(before, _TINY) * direction
    return found


def _store(value: ir.Value, array: NDArray[np.float64]) -> None:
    old = constant(value)
    fresh = np.ascontiguousarray(array.reshape(old.shape).astype(old.dtype))
    value.const_value = ir.Tensor(fresh, name=value.name)
