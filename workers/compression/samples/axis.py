"""Which axis of each input and output counts samples, and how many a run takes: found by running.

Names and sizes only say what to try. Most inputs are ``[samples, …]``, but recurrent networks read
``[steps, samples, features]`` and states ``[layers, samples, units]``; a graph may be fixed to a
number of samples, or declare any number and hold a one inside. What is true of an axis of samples,
and of no other, is that what a run answers to one does not depend on the others.
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
"""Of an input, as declared: a size, or a name."""

_MOST = 12
"""Layouts that are tried."""

_ALIKE, _TINY = 0.01, 1e-6
"""Mean differences of answers that are called equal: a share of their mean size, and at all."""


_COMPARED = 1 << 16
"""Samples that are compared to say that an input reads the same of each."""


class _MixedError(Exception):
    """What a run answers to a sample depends on the others."""


def find(model: ir.Model, run: Run, samples: Samples) -> Layout:
    """Find out how samples of a dataset stand in what a graph reads and gives.

    Args:
        model: the graph; what it declares of inputs and outputs says what to try.
        run: runs it.
        samples: at least one; two are run, alone and together.

    Returns:
        The first layout by which runs do not mix samples; else the first that runs at all, with the
        fewest samples that it takes.

    Raises:
        Exception: what ``run`` raises, where no layout runs.
    """
    arrays = samples.arrays
    declared = {name: dims for name, dims in dimensions(model).items() if name in arrays}
    allowed = {
        name: sample_axes(arrays[name].shape[1:], dims) or [0] for name, dims in declared.items()
    }

    def shared(name: str) -> bool:
        rows = arrays[name][:_COMPARED]
        return len(rows) == len(arrays[name]) and bool((rows == rows[:1]).all())

    found = layouts(declared, allowed, shared)
    return first_that_holds(model, run, (replace(samples, layout=each) for each in found))


def first_that_holds(model: ir.Model, run: Run, tries: Iterator[Samples]) -> Layout:
    """Return the layout of the first samples whose layout holds in runs; see ``find``."""
    failed: Exception | None = None
    runs: Layout | None = None
    for samples, _ in zip(tries, range(_MOST), strict=False):
        try:
            return checked(run, samples)
        except (MemoryError, TimeoutError):
            raise
        except _MixedError:
            runs = runs or apart(model, run, samples)
        except Exception as error:  # noqa: BLE001 (each runtime has classes of its own)
            failed = failed or error
    if runs is None:
        raise failed or ValueError("no dimension of the inputs can count samples")
    return runs


def checked(run: Run, samples: Samples) -> Layout:
    """Return the layout of samples with the axes of the outputs.

    Args:
        run: runs the graph.
        samples: with a layout to check: two are run alone and together, or as many as a run is
            fixed to forth and back.

    Raises:
        _MixedError: answers depend on the other samples of a run, or there is only one.
        Exception: what ``run`` raises on the fewest samples that a run takes.
    """
    layout = samples.layout
    if layout.size > 1:
        rows = _drawn(samples, layout.size)
        forth, back = run(samples.feeds(rows)), run(samples.feeds(rows[::-1]))
        outputs = {n: _axis_of_order(forth[n], back[n], layout.size) for n in forth}
        return replace(layout, outputs=outputs)
    one, other = _drawn(samples, 2)
    alone = run(samples.feeds([one]))
    if not layout.free or one == other:
        raise _MixedError
    try:
        second, both = run(samples.feeds([other])), run(samples.feeds([one, other]))
    except (MemoryError, TimeoutError):
        raise
    except Exception as error:  # (as above)
        raise _MixedError from error
    outputs = {name: _axis_of_two(both[name], alone[name], second[name]) for name in both}
    if all(axis is None for axis in outputs.values()):
        raise _MixedError
    return replace(layout, outputs=outputs)


def takes_several(run: Run, samples: Samples) -> bool:
    """Return whether runs of several samples answer each as it is answered alone.

    Args:
        run: runs the graph, by any runtime.
        samples: with the layout that was found.
    """
    try:
        return samples.layout.free and checked(run, samples).free
    except _MixedError:
        return False


def apart(model: ir.Model, run: Run, samples: Samples) -> Layout:
    """Return the layout of samples that are run in the smallest runs that the graph takes.

    The outputs' axes are those that are named as the axes of samples in the inputs are; else the
    first ones that are as long as a run has samples.
    """
    layout, declared = samples.layout, dimensions(model)
    given = run(samples.feeds(_drawn(samples, layout.size)[: layout.size]))
    names = {declared[name][axis] for name, axis in layout.inputs.items() if axis is not None}
    outputs: dict[str, int | None] = {}
    for value in model.graph.outputs:
        name, shape = str(value.name), np.shape(given[str(value.name)])
        named = [a for a, dim in enumerate(_dimensions(value)) if dim in names]
        likely = [a for a in (*named, *range(len(shape))) if shape[a : a + 1] == (layout.size,)]
        outputs[name] = likely[0] if likely and names else None
    return replace(layout, outputs=outputs, free=False)


def counting(model: ir.Model, layout: Layout) -> set[str]:
    """Return the names of the inputs' dynamic dimensions that count samples."""
    found = (
        dims[axis]
        for name, dims in dimensions(model).items()
        if (axis := layout.inputs.get(name, 0)) is not None and axis < len(dims)
    )
    return {dim for dim in found if isinstance(dim, str)}


def dimensions(model: ir.Model) -> dict[str, Dimensions]:
    """Return the declared dimensions of each input."""
    return {str(value.name): _dimensions(value) for value in inputs_of(model)}


def layouts(
    declared: Mapping[str, Dimensions],
    allowed: Mapping[str, Sequence[int | None]],
    shared: Callable[[str], bool],
) -> Iterator[Layout]:
    """Yield the layouts to try, likely ones first.

    For each dimension that may count samples, the inputs that have it do so along it; the others
    along the first axis that is allowed.

    Args:
        declared: dimensions of each input.
        allowed: the axes of each that may count samples, likely ones first; None is none of them.
        shared: says whether an input reads the same of each sample. Else samples of which it reads
            all are run one by one.
    """
    seen: list[dict[str, int | None]] = []
    for dim in _candidates(declared, allowed):
        axes: dict[str, int | None] = {}
        for name, dims in declared.items():
            same = [a for a in allowed[name] if a is not None and dims[a] == dim]
            axes[name] = (same or allowed[name])[0]
        counted = [declared[name][axis] for name, axis in axes.items() if axis is not None]
        sizes = {size for size in counted if isinstance(size, int)}
        if axes in seen or len(sizes) > 1:
            continue
        seen.append(axes)
        alike = all(shared(name) for name, axis in axes.items() if axis is None)
        yield Layout(axes, size=max(sizes, default=1), free=not sizes and alike)
    if all(None in axes for axes in allowed.values()):
        yield whole(declared)


def _candidates(
    declared: Mapping[str, Dimensions], allowed: Mapping[str, Sequence[int | None]]
) -> list[Dimension]:
    """Return the dimensions that may count samples: dynamic ones first, then by their axis."""
    found = [
        (isinstance(dims[axis], int), axis, dims[axis])
        for name, dims in declared.items()
        for axis in allowed[name]
        if axis is not None
    ]
    return list(dict.fromkeys(dim for _, _, dim in sorted(found, key=lambda each: each[:2])))


def _dimensions(value: ir.Value) -> list[Dimension]:
    return [
        size if isinstance(size, int) else name
        for size, name in zip(value.shape or (), dimension_names(value), strict=True)
    ]


def _drawn(samples: Samples, count: int) -> list[int]:
    """Return so many rows of samples at random; the same ones again where there are fewer."""
    rows = list(samples.draw(count, 0).indices)
    return (rows * count)[:count]


def _axis_of_two(both: Any, one: Any, other: Any) -> int | None:
    """Return the axis along which two samples' answers stand; None where all three are equal.

    Raises:
        _MixedError: two samples together are answered otherwise than alone.
    """
    if all(isinstance(each, np.ndarray) for each in (both, one, other)):
        for axis in range(both.ndim):
            if one.shape == other.shape and one.shape[axis : axis + 1] == (1,):
                joined = np.concatenate([one, other], axis)
                if joined.shape == both.shape and _alike(joined, both):
                    return axis
        if both.shape == one.shape == other.shape and _alike(both, one) and _alike(both, other):
            return None
    raise _MixedError


def _axis_of_order(forth: Any, back: Any, size: int) -> int | None:
    """Return the axis along which answers turn as the samples of a run do; None where none do.

    Raises:
        _MixedError: they change otherwise.
    """
    if isinstance(forth, np.ndarray) and np.shape(forth) == np.shape(back):
        for axis in range(forth.ndim):
            if forth.shape[axis] == size and _alike(forth, np.flip(back, axis)):
                return axis
        if _alike(forth, back):
            return None
    raise _MixedError


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether two arrays of a shape are equal but for what batching changes."""
    if one.dtype.kind not in "biuf":
        return bool((one == other).all())
    wanted, given = (np.nan_to_num(each.astype(np.float64)) for each in (one, other))
    if not wanted.size:
        return True
    return bool(np.abs(wanted - given).mean() <= _ALIKE * np.abs(wanted).mean() + _TINY)
