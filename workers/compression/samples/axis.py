"""Finds the axis of samples of each input and output, and how many samples a run takes.

Names and sizes only suggest layouts; running the graph decides. Most inputs are ``[samples, …]``,
but recurrent networks read ``[steps, samples, features]`` and states ``[layers, samples, units]``;
a graph may be fixed to a number of samples, or declare a dynamic number and have 1 built in. The
axis of samples is the one along which the output for a sample does not depend on the other
samples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.datasets import sample_axes
from workers.compression.graph.shapes import dimension_names, inputs_of
from workers.compression.samples.context import Feeds, Samples
from workers.compression.samples.layout import Layout, whole

Run = Callable[[Feeds], Mapping[str, Any]]
"""Runs a graph; returns its outputs by name, arrays and sequences of arrays."""

Dimension = int | str
Dimensions = Sequence[Dimension]
"""The declared dimensions of an input: sizes, or names."""

_MOST = 12
"""The most layouts that are tried."""

_ALIKE, _TINY = 0.01, 1e-6
"""The largest mean difference of outputs that count as equal: relative and absolute."""


_COMPARED = 1 << 16
"""Samples that are compared to decide that an input is the same for all samples."""


class _MixedError(Exception):
    """The output for a sample depends on the other samples of the run."""


def find(model: ir.Model, run: Run, samples: Samples) -> Layout:
    """Find the layout of samples in the inputs and outputs of a graph.

    Args:
        model: the graph; its declared inputs and outputs suggest layouts.
        run: runs the graph.
        samples: at least one sample; two are run, alone and together.

    Returns:
        The first layout with which runs do not mix samples. Without one, the first layout that
        runs at all, with the smallest number of samples in a run.

    Raises:
        Exception: the error of ``run``, where no layout runs.
    """
    arrays = samples.arrays
    declared = {name: dims for name, dims in dimensions(model).items() if name in arrays}
    allowed = {
        name: sample_axes(arrays[name].shape[1:], dims) or [0] for name, dims in declared.items()
    }

    def shared(name: str) -> bool:
        rows = arrays[name][:_COMPARED]
        return len(rows) == len(arrays[name]) and bool((rows == rows[:1]).all())

    possible = layouts(declared, allowed, shared)
    return first_that_holds(model, run, (replace(samples, layout=layout) for layout in possible))


def first_that_holds(model: ir.Model, run: Run, candidates: Iterator[Samples]) -> Layout:
    """Return the first layout that holds when samples are run with it; see ``find``."""
    failed: Exception | None = None
    runs: Layout | None = None
    for samples, _ in zip(candidates, range(_MOST), strict=False):
        try:
            return verified(run, samples)
        except (MemoryError, TimeoutError):
            raise
        except _MixedError:
            runs = runs or smallest_runs(model, run, samples)
        except Exception as error:  # noqa: BLE001 (each runtime has classes of its own)
            failed = failed or error
    if runs is None:
        raise failed or ValueError("no dimension of the inputs can count samples")
    return runs


def verified(run: Run, samples: Samples) -> Layout:
    """Return the layout of samples with the axes of the outputs.

    Args:
        run: runs the graph.
        samples: samples with the layout to check. Two are run alone and together; where a run has
            a fixed size, one run is made in order and one in reverse.

    Raises:
        _MixedError: the output for a sample depends on the others, or there is only one sample.
        Exception: the error of ``run`` on the smallest run.
    """
    layout = samples.layout
    if layout.size > 1:
        rows = _drawn(samples, layout.size)
        in_order, in_reverse = run(samples.feeds(rows)), run(samples.feeds(rows[::-1]))
        outputs = {n: _axis_of_order(in_order[n], in_reverse[n], layout.size) for n in in_order}
        return replace(layout, outputs=outputs)
    first_row, second_row = _drawn(samples, 2)
    alone = run(samples.feeds([first_row]))
    if not layout.free or first_row == second_row:
        raise _MixedError
    try:
        second, both = run(samples.feeds([second_row])), run(samples.feeds([first_row, second_row]))
    except (MemoryError, TimeoutError):
        raise
    except Exception as error:  # (see first_that_holds)
        raise _MixedError from error
    outputs = {name: _axis_of_two(both[name], alone[name], second[name]) for name in both}
    if all(axis is None for axis in outputs.values()):
        raise _MixedError
    return replace(layout, outputs=outputs)


def takes_several(run: Run, samples: Samples) -> bool:
    """Return whether a run of several samples gives the same outputs as single runs.

    Args:
        run: runs the graph, by any runtime.
        samples: samples with their layout.
    """
    try:
        return samples.layout.free and verified(run, samples).free
    except _MixedError:
        return False


def smallest_runs(model: ir.Model, run: Run, samples: Samples) -> Layout:
    """Return the layout for the smallest runs that the graph takes.

    The axis of samples of an output is the one that has the same name as in the inputs; else the
    first one whose length is the number of samples of a run.
    """
    layout, declared = samples.layout, dimensions(model)
    answers = run(samples.feeds(_drawn(samples, layout.size)[: layout.size]))
    names = {declared[name][axis] for name, axis in layout.inputs.items() if axis is not None}
    outputs: dict[str, int | None] = {}
    for value in model.graph.outputs:
        name, shape = str(value.name), np.shape(answers[str(value.name)])
        named = [a for a, dim in enumerate(_dimensions(value)) if dim in names]
        likely = [a for a in (*named, *range(len(shape))) if shape[a : a + 1] == (layout.size,)]
        outputs[name] = likely[0] if likely and names else None
    return replace(layout, outputs=outputs, free=False)


def sample_dimensions(model: ir.Model, layout: Layout) -> set[str]:
    """Return the names of the inputs' dynamic dimensions that count samples."""
    dimension_names = (
        dims[axis]
        for name, dims in dimensions(model).items()
        if (axis := layout.inputs.get(name, 0)) is not None and axis < len(dims)
    )
    return {dim for dim in dimension_names if isinstance(dim, str)}


def sizes_of_one(model: ir.Model, layout: Layout, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of dynamic dimensions that do not count samples, by name."""
    counting = sample_dimensions(model, layout)
    return {name: size for name, size in sizes.items() if name not in counting}


def dimensions(model: ir.Model) -> dict[str, Dimensions]:
    """Return the declared dimensions of each input."""
    return {str(value.name): _dimensions(value) for value in inputs_of(model)}


def layouts(
    declared: Mapping[str, Dimensions],
    allowed: Mapping[str, Sequence[int | None]],
    shared: Callable[[str], bool],
) -> Iterator[Layout]:
    """Yield the possible layouts, likely ones first.

    There is one layout for each dimension that may count samples. Inputs with this dimension have
    their samples along it, the others along their first allowed axis.

    Args:
        declared: the dimensions of each input.
        allowed: the axes of each input that may count samples, likely ones first; None means that
            the input has no such axis.
        shared: whether an input is the same for each sample. If not, and it has no axis of
            samples, samples are run one by one.
    """
    earlier: list[dict[str, int | None]] = []
    for dim in _candidates(declared, allowed):
        axes: dict[str, int | None] = {}
        for name, dims in declared.items():
            matching = [a for a in allowed[name] if a is not None and dims[a] == dim]
            axes[name] = (matching or allowed[name])[0]
        counted = [declared[name][axis] for name, axis in axes.items() if axis is not None]
        sizes = {size for size in counted if isinstance(size, int)}
        if axes in earlier or len(sizes) > 1:
            continue
        earlier.append(axes)
        all_shared = all(shared(name) for name, axis in axes.items() if axis is None)
        yield Layout(axes, size=max(sizes, default=1), free=not sizes and all_shared)
    if all(None in axes for axes in allowed.values()):
        yield whole(declared)


def _candidates(
    declared: Mapping[str, Dimensions], allowed: Mapping[str, Sequence[int | None]]
) -> list[Dimension]:
    """Return the dimensions that may count samples: dynamic ones first, then by their axis."""
    ranked = [
        (isinstance(dims[axis], int), axis, dims[axis])
        for name, dims in declared.items()
        for axis in allowed[name]
        if axis is not None
    ]
    return list(dict.fromkeys(dim for _, _, dim in sorted(ranked, key=lambda entry: entry[:2])))


def _dimensions(value: ir.Value) -> list[Dimension]:
    return [
        size if isinstance(size, int) else name
        for size, name in zip(value.shape or (), dimension_names(value), strict=True)
    ]


def _drawn(samples: Samples, count: int) -> list[int]:
    """Draw ``count`` rows of the samples at random; rows repeat where there are fewer."""
    rows = list(samples.draw(count, 0).indices)
    return (rows * count)[:count]


def _axis_of_two(both: Any, first: Any, second: Any) -> int | None:
    """Return the axis along which the outputs of two samples lie; None where all three are equal.

    Raises:
        _MixedError: two samples together give other outputs than alone.
    """
    if all(isinstance(array, np.ndarray) for array in (both, first, second)):
        for axis in range(both.ndim):
            if first.shape == second.shape and first.shape[axis : axis + 1] == (1,):
                joined = np.concatenate([first, second], axis)
                if joined.shape == both.shape and _nearly_equal(joined, both):
                    return axis
        if (
            both.shape == first.shape == second.shape
            and _nearly_equal(both, first)
            and _nearly_equal(both, second)
        ):
            return None
    raise _MixedError


def _axis_of_order(in_order: Any, in_reverse: Any, size: int) -> int | None:
    """Return the axis that is reversed when the samples of a run are; None where there is none.

    Raises:
        _MixedError: the outputs change in another way.
    """
    if isinstance(in_order, np.ndarray) and np.shape(in_order) == np.shape(in_reverse):
        for axis in range(in_order.ndim):
            if in_order.shape[axis] == size and _nearly_equal(in_order, np.flip(in_reverse, axis)):
                return axis
        if _nearly_equal(in_order, in_reverse):
            return None
    raise _MixedError


def _nearly_equal(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Return whether two arrays are equal, up to the rounding that batching changes.

    NaN and infinity have to be where they were.
    """
    if first.dtype.kind not in "biuf":
        return bool((first == second).all())
    left, right = (array.astype(np.float64) for array in (first, second))
    finite = np.isfinite(left) & np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        return False
    left, right = left[finite], right[finite]
    if not left.size:
        return True
    return bool(np.abs(left - right).mean() <= _ALIKE * np.abs(left).mean() + _TINY)
