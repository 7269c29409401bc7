"""What the values inside of a graph look like on data: one pass for extremes, one for histograms.

Memory is bounded by one batch's values of one group of tensors, whatever the number of samples.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor
from workers.compression.looking.histograms import BINS, Histogram, count
from workers.compression.looking.probe import Probe, runs, show
from workers.compression.samples.context import Samples

_GROUP_BYTES = 256 << 20

Advance = Callable[[float], None]


def observe(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    threads: int,
    advance: Advance,
    *,
    histograms: bool = True,
) -> dict[str, Histogram]:
    """Run a graph on samples and return what float tensors of its main graph held.

    Args:
        model: the graph; not changed.
        names: of the values to look at.
        samples: one pass runs over all of them.
        threads: to compute with.
        advance: told the fraction done.
        histograms: without, only extremes are collected and ``counts`` is empty.

    Returns:
        A histogram for each name; a tensor that is not finite has NaN extremes.
    """
    if not names:
        return {}
    extremes, sizes = _extremes(model, names, samples, threads, lambda f: advance(f / 2))
    if not histograms:
        return {n: Histogram(*extremes[n], np.zeros(0, np.int64)) for n in names}
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    groups = _groups(names, sizes)
    for index, group in enumerate(groups):

        def inner(fraction: float, index: int = index) -> None:
            advance(0.5 + (index + fraction) / len(groups) / 2)

        for values in runs(model, _values(group), samples, threads, inner):
            for name, value in zip(group, values, strict=True):
                counts[name] += count(value, *extremes[name])
    return {name: Histogram(*extremes[name], counts[name]) for name in names}


def _extremes(
    model: ir.Model, names: Sequence[str], samples: Samples, threads: int, advance: Advance
) -> tuple[dict[str, tuple[float, float]], dict[str, int]]:
    """Return each tensor's smallest and largest value, and its bytes in one batch."""
    low = np.full(len(names), np.inf)
    high = np.full(len(names), -np.inf)
    sizes = np.zeros(len(names), np.int64)
    for values in runs(model, _reduced(names), samples, threads, advance):
        scalars = np.array([float(v) for v in values]).reshape(len(names), 3)
        low, high = np.minimum(low, scalars[:, 0]), np.maximum(high, scalars[:, 1])
        sizes = np.maximum(sizes, scalars[:, 2].astype(np.int64) * 4)
    finite = np.isfinite(low) & np.isfinite(high)
    low[~finite] = high[~finite] = np.nan
    pairs = {n: (float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)}
    return pairs, dict(zip(names, sizes.tolist(), strict=True))


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


def _values(names: Sequence[str]) -> Probe:
    """Look at whole values."""

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [
            name
            if values[name].is_graph_output()
            else show(edit, edit.node("Identity", [values[name]], f"{name}_value"))
            for name in names
        ]

    return probe


def _reduced(names: Sequence[str]) -> Probe:
    """Look at the smallest and the largest element of each value, and its size."""

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        wanted = []
        for name in names:
            value = values[name]
            for operator in ("ReduceMin", "ReduceMax"):
                reduced = edit.node(operator, [value], f"{name}_{operator}", keepdims=0)
                wanted.append(show(edit, reduced))
            wanted.append(show(edit, edit.node("Size", [value], f"{name}_size"), ir.DataType.INT64))
        return wanted

    return probe
