"""What the values inside of a graph look like on data: one pass for extremes, one for histograms.

Memory is bounded by one batch's values of one group of tensors, whatever the number of samples.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.context import Samples
from workers.compression.graph import runtime
from workers.compression.graph.load import save
from workers.compression.methods.quantize.ranges import BINS, Histogram, count
from workers.compression.targets.onnx import batch_size, run

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

        for values in _runs(model, group, samples, threads, inner):
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
    for values in _runs(model, names, samples, threads, advance, reduced=True):
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


def _runs(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    threads: int,
    advance: Advance,
    *,
    reduced: bool = False,
) -> Iterator[list[NDArray[Any]]]:
    """Yield, for each batch, the tensors' values, or minimum, maximum and size of each."""
    probed = model.clone()
    values = ir.convenience.create_value_mapping(probed.graph)
    wanted: list[str] = []
    for index, name in enumerate(names):
        value = values[name]
        if reduced:
            wanted += _reduce(probed.graph, value, index)
        elif value.is_graph_output():
            wanted.append(name)
        else:
            wanted.append(_expose(probed.graph, "Identity", value, f"{index}_value"))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "probed.onnx"
        save(probed, path)
        session = runtime.open_session(path, threads=threads)
    size = batch_size(session, samples)
    done = 0
    for feeds, rows in samples.batches(size):
        yield run(session, wanted, feeds)
        done += len(rows)
        advance(done / len(samples))


def _reduce(graph: ir.Graph, value: ir.Value, index: int) -> list[str]:
    smallest = _expose(graph, "ReduceMin", value, f"{index}_low", {"keepdims": 0})
    largest = _expose(graph, "ReduceMax", value, f"{index}_high", {"keepdims": 0})
    return [smallest, largest, _expose(graph, "Size", value, f"{index}_size")]


def _expose(
    graph: ir.Graph, operator: str, value: ir.Value, name: str, attributes: Any = None
) -> str:
    """Make ``operator(value)`` an output of the graph."""
    node = ir.node(operator, [value], attributes or {}, name=f"planish_{name}")
    out = node.outputs[0]
    out.name, out.type = (
        f"planish_{name}",
        ir.TensorType(ir.DataType.INT64 if operator == "Size" else ir.DataType.FLOAT),
    )
    graph.append(node)
    graph.outputs.append(out)
    return out.name
