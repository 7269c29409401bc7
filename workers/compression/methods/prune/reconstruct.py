"""Fit the layers that read a cut to what is left, by least squares on data.

A layer that reads fewer channels gives other outputs. Its weights and bias are moved so that on
calibration data they are near those of the whole graph again (ThiNet, Luo et al., ICCV 2017, with
the solution drawn to the weights that there were). Zeros of a sparse layer stay zero. Layers are
fitted in order, each on inputs that the changed graph really gives it, so that errors of earlier
layers are made good by later ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.context import Context, Samples
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.operators import channel_axis, operand
from workers.compression.methods.prune.gradients import calibration
from workers.compression.methods.prune.groups import LAYERS, Analysis, Removed
from workers.compression.probe import runs, show

_ROWS = 32
"""Positions of each sample that a fit looks at."""

_SAMPLES = (16, 128)
"""Samples, at least and at most."""

_WORK = 4e11
"""Multiply-accumulates that all fits together may take."""

_RIDGE = 0.02
"""How strongly weights are drawn to what they were, against the inputs' mean power."""

_STEPS = 50
"""Of conjugate gradients, where zeros must stay."""

_TINY = 1e-30

_WIDEST = 4608
"""Inputs, the kernel included, up to which a layer is fitted."""

Rows = NDArray[np.float64]


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
    most = int(np.clip(_WORK / max(2 * len(fits) * macs, 1), *_SAMPLES))
    samples = calibration(context, most)
    for index, fit in enumerate(fits):
        inputs, outputs = _observe(whole, smaller, fit, samples, context)
        if np.isfinite(inputs).all() and np.isfinite(outputs).all():
            _solve(fit.cut, inputs, outputs[:, fit.outputs])
        advance((index + 1) / len(fits))


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


def _observe(
    whole: ir.Model, smaller: ir.Model, fit: Fit, samples: Samples, context: Context
) -> tuple[Rows, Rows]:
    """Return rows of what the cut layer reads, and of what the whole one gives."""
    read, given = _show(operand(fit.cut, 0)), _show(fit.whole.outputs[0])
    random = np.random.default_rng(context.seed)
    inputs, outputs = [], []
    pairs = zip(
        runs(smaller, read, samples, context.threads, _quiet),
        runs(whole, given, samples, context.threads, _quiet),
        strict=True,
    )
    for (x,), (y,) in pairs:
        look = _pixels if fit.cut.op_type == "Conv" else _vectors
        rows, answers = look(fit.cut, x, y, random)
        inputs.append(rows.astype(np.float64))
        outputs.append(answers.astype(np.float64))
    return np.concatenate(inputs), np.concatenate(outputs)


def _show(value: ir.Value | None) -> Callable[[Editor], list[str]]:
    assert value is not None
    name = str(value.name)

    def probe(edit: Editor) -> list[str]:
        found = ir.convenience.create_value_mapping(edit.graph)[name]
        seen = edit.node("Cast", [found], f"{name}_seen", to=ir.DataType.FLOAT.value)
        return [show(edit, seen)]

    return probe


def _quiet(_done: float) -> None:
    """Tell nobody: each run is short."""


def _vectors(
    _node: ir.Node, x: NDArray[Any], y: NDArray[Any], random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pick positions of a product; return ``[positions, inputs]`` and ``[positions, outputs]``."""
    rows, answers = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    chosen = random.permutation(len(rows))[: _ROWS * len(x)]
    return rows[chosen], answers[chosen]


def _pixels(
    node: ir.Node, x: NDArray[Any], y: NDArray[Any], random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pick pixels of a convolution; return the patches behind them, and the pixels."""
    weight = operand(node, 1)
    assert weight is not None
    get = node.attributes.get_ints
    top, left, bottom, right = get("pads", (0, 0, 0, 0))
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    count = len(y) * min(_ROWS, y.shape[2] * y.shape[3])
    sample, row, column = (random.integers(0, y.shape[axis], count) for axis in (0, 2, 3))
    down, across = (
        place[:, None] * stride + np.arange(size) * dilation
        for place, stride, size, dilation in zip(
            (row, column), get("strides", (1, 1)), constant(weight).shape[2:],
            get("dilations", (1, 1)), strict=True,
        )
    )  # fmt: skip
    patches = padded[sample[:, None, None], :, down[:, :, None], across[:, None, :]]
    return np.moveaxis(patches, -1, 1).reshape(count, -1), y[sample, :, row, column]


def _solve(node: ir.Node, inputs: Rows, outputs: Rows) -> None:
    """Write the weight and bias that bring a layer nearest to ``outputs``."""
    weight, bias = operand(node, 1), operand(node, 2)
    assert weight is not None
    stored = constant(weight)
    across = node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)
    )
    flat = (stored if across else stored.reshape(len(stored), -1).T).astype(np.float64)
    x_mean = inputs.mean(axis=0) if bias is not None else np.zeros(inputs.shape[1])
    y_mean = outputs.mean(axis=0) if bias is not None else np.zeros(outputs.shape[1])
    x, y = inputs - x_mean, outputs - y_mean
    moments = x.T @ x
    moments[np.diag_indices_from(moments)] += _RIDGE * max(np.trace(moments) / len(moments), 1e-12)
    error = x.T @ (y - x @ flat)
    zeros = flat == 0
    fitted = flat + (
        _descend(moments, error, ~zeros) if zeros.any() else np.linalg.solve(moments, error)
    )
    shaped = (fitted if across else fitted.T).reshape(stored.shape)
    _store(weight, shaped)
    if bias is not None:
        _store(bias, y_mean - x_mean @ fitted)


def _descend(moments: Rows, error: Rows, free: NDArray[np.bool_]) -> Rows:
    """Solve ``moments @ d = error`` in each column's free rows, by conjugate gradients."""
    found = np.zeros_like(error)
    rest = error * free
    direction, power = rest, (rest**2).sum(axis=0)
    for _ in range(_STEPS):
        ahead = (moments @ direction) * free
        length = power / np.maximum((direction * ahead).sum(axis=0), _TINY)
        found, rest = found + length * direction, rest - length * ahead
        before, power = power, (rest**2).sum(axis=0)
        direction = rest + power / np.maximum(before, _TINY) * direction
    return found


def _store(value: ir.Value, array: NDArray[np.float64]) -> None:
    old = constant(value)
    fresh = np.ascontiguousarray(array.reshape(old.shape).astype(old.dtype))
    value.const_value = ir.Tensor(fresh, name=value.name)
