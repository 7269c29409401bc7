"""Fit the layers that read a cut to what is left, by least squares on data.

A layer that reads fewer channels gives other outputs. Its weights and bias are moved so that on
calibration data they are near those of the whole graph again (ThiNet, Luo et al., ICCV 2017, with
the solution drawn to the weights that there were). Zeros of a sparse layer stay zero. Layers are
fitted in order, each on inputs that the changed graph really gives it, so that errors of earlier
layers are made good by later ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.context import Context
from workers.compression.graph.editor import constant
from workers.compression.graph.operators import channel_axis, operand
from workers.compression.methods.prune.gradients import calibration
from workers.compression.methods.prune.groups import LAYERS, Analysis, Removed
from workers.compression.methods.prune.moments import POSITIONS, Moments, Rows, look
from workers.compression.methods.prune.walk import Walk

_SAMPLES = (16, 128)
"""Samples, at least and at most."""

_WORK = 4e11
"""Multiply-accumulates that both graphs together may take."""

_RIDGE = 0.02
"""How strongly weights are drawn to what they were, against the inputs' mean power."""

_STEPS = 50
"""Of conjugate gradients, where zeros must stay."""

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
) -> None:
    """Fit what is not zero in a graph whose weights have zeros, in place.

    Args:
        whole: the graph before.
        sparse: the same graph with zeros; they stay.
        context: data, seed, threads.
        macs: of one sample, which bound how many are looked at.
        advance: told the fraction done.
    """
    nodes = {node.name: node for node in sparse.graph}
    fits = []
    for node in whole.graph:
        if node.op_type in LAYERS and _fittable(nodes[node.name]):
            weight = operand(node, 1)
            assert weight is not None
            count = constant(weight).shape[channel_axis(node) or 0]
            fits.append(Fit(node, nodes[node.name], np.arange(count)))
    _fit_all(whole, sparse, fits, context, macs, advance)


def _fit_all(
    whole: ir.Model,
    smaller: ir.Model,
    fits: list[Fit],
    context: Context,
    macs: float,
    advance: Callable[[float], None],
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
            _solve(fit.cut, moments)
        advance((index + 1) / len(fits))


def _observe(
    fit: Fit, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]], seed: int
) -> Moments:
    """Look at what the cut layer reads in each run, and at what the whole one gives there."""
    random = np.random.default_rng(seed)
    each = ceil(POSITIONS / len(inputs))
    pairs = zip(inputs, outputs, strict=False)  # the last runs may have been left out of one
    looks = (look(fit.cut, x, y, each, random) for x, y in pairs)
    rows, answers = next(looks)
    moments = Moments.of(rows, answers[:, fit.outputs])
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
        if node.op_type not in LAYERS or cut is None or data is None or not _fittable(cut):
            continue
        axis = 1 if node.op_type == "Conv" else len(analysis.shapes[str(data.name)]) - 1
        kept = analysis.kept(str(data.name), axis, removed)
        if kept is None or kept.all():
            continue
        output = node.outputs[0]
        last = 1 if node.op_type == "Conv" else len(analysis.shapes[str(output.name)]) - 1
        stays = analysis.kept(str(output.name), last, removed)
        count = analysis.shapes[str(output.name)][last]
        yield Fit(node, cut, np.arange(count) if stays is None else np.flatnonzero(stays))


def _fittable(node: ir.Node) -> bool:
    """Return whether a layer is a plain product whose weight and bias are its own."""
    weight, bias = operand(node, 1), operand(node, 2)
    own = [value for value in (weight, bias) if value is not None]
    if weight is None or not all(v.is_initializer() and len(v.uses()) == 1 for v in own):
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


def _solve(node: ir.Node, moments: Moments) -> None:
    """Write the weight and bias that bring a layer nearest to what it should give."""
    weight, bias = operand(node, 1), operand(node, 2)
    assert weight is not None
    stored = constant(weight)
    across = node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)
    )
    flat = (stored if across else stored.reshape(len(stored), -1).T).astype(np.float64)
    means = moments.means()
    x_mean, y_mean = means if bias is not None else map(np.zeros_like, means)
    second, wanted = moments.around(x_mean, y_mean)
    error = wanted - second @ flat
    second[np.diag_indices_from(second)] += _RIDGE * max(np.trace(second) / len(second), 1e-12)
    zeros = flat == 0
    fitted = flat + (
        _descend(second, error, ~zeros) if zeros.any() else np.linalg.solve(second, error)
    )
    shaped = (fitted if across else fitted.T).reshape(stored.shape)
    _store(weight, shaped)
    if bias is not None:
        _store(bias, y_mean - x_mean @ fitted)


def _descend(second: Rows, error: Rows, free: NDArray[np.bool_]) -> Rows:
    """Solve ``second @ d = error`` in each column's free rows, by conjugate gradients."""
    found = np.zeros_like(error)
    rest = error * free
    direction, power = rest, (rest**2).sum(axis=0)
    for _ in range(_STEPS):
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
