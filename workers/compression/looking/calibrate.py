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
        A histogram for each name, of its finite values; one without any has NaN extremes.
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


def unsound(
    model: ir.Model, names: Sequence[str], samples: Samples, threads: int
) -> frozenset[str]:
    """Return the float tensors of a graph's main part that are not finite on some sample.

    Args:
        model: the graph; not changed.
        names: of the values to look at.
        samples: one pass runs over all of them.
        threads: to compute with.
    """
    found = _reduced(model, names, samples, threads, lambda _: None, finite=False) if names else {}
    return frozenset(name for name, seen in found.items() if not np.isfinite(seen).all())


def _extremes(
    model: ir.Model, names: Sequence[str], samples: Samples, threads: int, advance: Advance
) -> tuple[dict[str, tuple[float, float]], dict[str, int]]:
    """Return each tensor's smallest and largest finite value, and its bytes in one batch.

    NaN and infinity stand in the padding of masked rows: a tensor that has some is looked at anew,
    without them.
    """
    found = _reduced(model, names, samples, threads, advance, finite=False)
    odd = [name for name, figures in found.items() if not np.isfinite(figures).all()]
    if odd:
        found |= _reduced(model, odd, samples, threads, advance, finite=True)
    extremes = {n: (a, b) if a <= b else (np.nan, np.nan) for n, (a, b, *_) in found.items()}
    return extremes, {name: int(size) for name, (_, _, size, _) in found.items()}


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


def _reduced(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    threads: int,
    advance: Advance,
    *,
    finite: bool,
) -> dict[str, tuple[float, ...]]:
    """Return each tensor's smallest and largest element, its bytes in one batch, and its sum.

    The sum alone is certain to be NaN where an element is: minimum and maximum may step over it.

    Args:
        model: the graph; not changed.
        names: of the values to look at.
        samples: one pass runs over all of them.
        threads: to compute with.
        advance: told the fraction done.
        finite: look only at what is neither NaN nor infinite; with no such element the smallest
            is infinity and the largest minus infinity.
    """
    found = np.tile([np.inf, -np.inf, 0.0, 0.0], (len(names), 1))
    for values in runs(model, _ends(names, finite=finite), samples, threads, advance):
        batch = np.array([float(v) for v in values]).reshape(len(names), 4)
        found[:, 0] = np.minimum(found[:, 0], batch[:, 0])
        found[:, 1] = np.maximum(found[:, 1], batch[:, 1])
        found[:, 2] = np.maximum(found[:, 2], batch[:, 2] * 4)
        found[:, 3] += batch[:, 3]
    return dict(zip(names, map(tuple, found.tolist()), strict=True))


def _ends(names: Sequence[str], *, finite: bool) -> Probe:
    """Look at the smallest and the largest element of each value, its size and its sum."""

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)

        def reduced(operator: str, name: str, instead: float) -> str:
            value = values[name]
            seen = _without_odd(edit, value, np.float32(instead)) if finite else value
            return show(edit, edit.node(operator, [seen], f"{name}_{operator}", keepdims=0))

        wanted = []
        for name in names:
            size = edit.node("Size", [values[name]], f"{name}_size")
            wanted += [
                reduced("ReduceMin", name, np.inf),
                reduced("ReduceMax", name, -np.inf),
                show(edit, size, ir.DataType.INT64),
                reduced("ReduceSum", name, 0.0),
            ]
        return wanted

    return probe


def _without_odd(edit: Editor, value: ir.Value, instead: np.float32) -> ir.Value:
    """Put ``instead`` in the place of NaN and infinity, which times zero are not zero."""
    zero, other = (
        edit.constant(f"{value.name}_fill", np.array(a)) for a in (np.float32(0), instead)
    )
    nothing = edit.node("Mul", [value, zero], f"{value.name}_nothing")
    sound = edit.node("Equal", [nothing.outputs[0], zero], f"{value.name}_sound")
    chosen = edit.node("Where", [sound.outputs[0], value, other], f"{value.name}_finite")
    for node in (nothing, sound, chosen):
        edit.graph.append(node)
    return chosen.outputs[0]
