"""Observes the range and the distribution of the values inside a graph on calibration data.

One pass over the samples finds extremes, a second one histograms.

Memory is bounded by one batch's values of one group of tensors, whatever the number of samples.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor
from workers.compression.looking.histograms import BINS, Histogram, count
from workers.compression.looking.probe import Probe, runs, show, values_of
from workers.compression.progress import Advance, span, turn
from workers.compression.samples.context import Samples

_GROUP_BYTES = 256 << 20

_COUNTED, _COUNTED_AT_LEAST = 1 << 23, 1 << 14
"""The elements of a tensor that its histogram counts, over all runs, and in one run at least."""


def observe(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    threads: int,
    advance: Advance,
    *,
    histograms: bool = True,
    has_time: Callable[[], bool] = lambda: True,
) -> dict[str, Histogram]:
    """Run a graph on samples and return histograms of float tensors of its main graph.

    Args:
        model: the graph; not changed.
        names: names of the tensors to observe.
        samples: one pass runs over all of them.
        threads: number of threads to compute with.
        advance: called with the fraction done.
        histograms: if False, only extremes are collected and ``counts`` is empty.
        has_time: whether there is time for more than a few samples.

    Returns:
        A histogram of the finite values of each tensor; without finite values its extremes are
        NaN.
    """
    if not names:
        return {}
    extremes, sizes = _extremes(model, names, samples, threads, span(advance, 0, 0.5), has_time)
    if not histograms:
        return {n: Histogram(*extremes[n], np.zeros(0, np.int64)) for n in names}
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    groups = _groups(names, sizes)
    most = max(_COUNTED * samples.layout.size // len(samples), _COUNTED_AT_LEAST)
    for index, group in enumerate(groups):
        counting = turn(span(advance, 0.5, 1), index, len(groups))
        for values in runs(model, values_of(group), samples, threads, counting, has_time):
            for name, value in zip(group, values, strict=True):
                counts[name] += count(value, *extremes[name], most)
    return {name: Histogram(*extremes[name], counts[name]) for name in names}


def not_finite_tensors(
    model: ir.Model, names: Sequence[str], samples: Samples, threads: int
) -> frozenset[str]:
    """Return the float tensors of the main graph that hold NaN or infinity on some sample.

    Args:
        model: the graph; not changed.
        names: names of the tensors to observe.
        samples: one pass runs over all of them.
        threads: number of threads to compute with.
    """
    figures_by_name = (
        _reduced(model, names, samples, threads, lambda _: None, finite=False) if names else {}
    )
    return frozenset(
        name for name, figures in figures_by_name.items() if not np.isfinite(figures).all()
    )


def _extremes(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    threads: int,
    advance: Advance,
    has_time: Callable[[], bool],
) -> tuple[dict[str, tuple[float, float]], dict[str, int]]:
    """Return each tensor's smallest and largest finite value, and its bytes in one batch.

    Padding of masked rows may hold NaN and infinity: a tensor that holds some is observed a second
    time without them.
    """
    reduced = _reduced(model, names, samples, threads, advance, has_time, finite=False)
    not_finite = [name for name, figures in reduced.items() if not np.isfinite(figures).all()]
    if not_finite:
        reduced |= _reduced(model, not_finite, samples, threads, advance, has_time, finite=True)
    extremes = {n: (a, b) if a <= b else (np.nan, np.nan) for n, (a, b, *_) in reduced.items()}
    return extremes, {name: int(size) for name, (_, _, size, _) in reduced.items()}


def _groups(names: Sequence[str], sizes: dict[str, int]) -> list[list[str]]:
    """Split tensors into groups whose values fit into memory together."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name in names:
        if groups[-1] and filled + sizes[name] > _GROUP_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += sizes[name]
    return groups


def _reduced(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    threads: int,
    advance: Advance,
    has_time: Callable[[], bool] = lambda: True,
    *,
    finite: bool,
) -> dict[str, tuple[float, ...]]:
    """Return each tensor's smallest and largest element, its bytes in one batch, and its sum.

    If an element is NaN, the sum is certain to be NaN; minimum and maximum may ignore it.

    Args:
        model: the graph; not changed.
        names: names of the tensors to observe.
        samples: one pass runs over all of them.
        threads: number of threads to compute with.
        advance: called with the fraction done.
        has_time: whether there is time for more than a few samples.
        finite: consider finite elements only. Without any, the smallest is infinity and the
            largest minus infinity.
    """
    reduced = np.tile([np.inf, -np.inf, 0.0, 0.0], (len(names), 1))
    for values in runs(model, _ends(names, finite=finite), samples, threads, advance, has_time):
        batch = np.array([float(v) for v in values]).reshape(len(names), 4)
        reduced[:, 0] = np.minimum(reduced[:, 0], batch[:, 0])
        reduced[:, 1] = np.maximum(reduced[:, 1], batch[:, 1])
        reduced[:, 2] = np.maximum(reduced[:, 2], batch[:, 2] * 4)
        reduced[:, 3] += batch[:, 3]
    return dict(zip(names, map(tuple, reduced.tolist()), strict=True))


def _ends(names: Sequence[str], *, finite: bool) -> Probe:
    """Observe the minimum, the maximum, the size and the sum of each tensor."""

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)

        def reduced(operator: str, name: str, replacement: float) -> str:
            value = values[name]
            observed = _finite_or(edit, value, np.float32(replacement)) if finite else value
            return show(edit, edit.node(operator, [observed], f"{name}_{operator}", keepdims=0))

        outputs = []
        for name in names:
            size = edit.node("Size", [values[name]], f"{name}_size")
            outputs += [
                reduced("ReduceMin", name, np.inf),
                reduced("ReduceMax", name, -np.inf),
                show(edit, size, ir.DataType.INT64),
                reduced("ReduceSum", name, 0.0),
            ]
        return outputs

    return probe


def _finite_or(edit: Editor, value: ir.Value, replacement: np.float32) -> ir.Value:
    """Replace NaN and infinity, which times zero are not zero, by ``replacement``."""
    zero, fill = (
        edit.constant(f"{value.name}_fill", np.array(a)) for a in (np.float32(0), replacement)
    )
    product = edit.node("Mul", [value, zero], f"{value.name}_nothing")
    is_finite = edit.node("Equal", [product.outputs[0], zero], f"{value.name}_sound")
    finite = edit.node("Where", [is_finite.outputs[0], value, fill], f"{value.name}_finite")
    for node in (product, is_finite, finite):
        edit.graph.append(node)
    return finite.outputs[0]
