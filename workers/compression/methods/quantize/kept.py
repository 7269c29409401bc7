"""Packs calibrated graphs into entries of a price list, and unpacks them."""

import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.directory import MOST_PRICE_BYTES
from app.domain.steps import Quantize
from workers.compression.graph import runtime
from workers.compression.graph.load import load, weight_bytes
from workers.compression.methods.quantize.calibrated import Calibrated
from workers.compression.methods.quantize.integers import Floats, Grid
from workers.compression.methods.quantize.smooth import Smoothed
from workers.compression.price_list import Entry
from workers.compression.samples.context import Context


def kept_calibration(
    make: Callable[[], Calibrated], given: ir.Model, parameters: Quantize, context: Context
) -> Calibrated:
    """Return the calibrated graph: from the price list, or made and kept there.

    Args:
        make: calibrates the graph.
        given: the graph before that.
        parameters: of the step.
        context: with the price list.
    """
    return context.prices.value(
        ("calibrated", alike(parameters)),
        make,
        lambda calibrated: _calibrated_entry(calibrated, given),
        lambda entry: _calibrated(entry, given, parameters),
    )


def kept_smoothing(
    make: Callable[[], Smoothed], given: ir.Model, parameters: Quantize, context: Context
) -> Smoothed:
    """Return the smoothed graph, as ``kept_calibration`` does."""
    return context.prices.value(
        ("smoothed", alike(parameters)),
        make,
        lambda graph: _smoothed_entry(graph, given),
        lambda entry: _smoothed(entry, given),
    )


def kept_weights(
    make: Callable[[], Mapping[str, Floats]], what: Hashable, context: Context
) -> Mapping[str, Floats]:
    """Return weights by name, as ``kept_calibration`` does; ``what`` is all they depend on."""

    def pack(weights: Mapping[str, Floats]) -> Entry | None:
        return _entry([*weights], [*weights.values()])

    def unpack(entry: Entry) -> Mapping[str, Floats]:
        return dict(zip(entry.figures, entry.arrays, strict=True))

    return context.prices.value(what, make, pack, unpack)


def alike(parameters: Quantize) -> str:
    """Return the parameters as JSON, the same for all of 'prefer': no measurement depends on it."""
    return parameters.model_copy(update={"prefer": "balanced"}).model_dump_json()


def _calibrated_entry(calibrated: Calibrated, given: ir.Model) -> Entry | None:
    """Return what is kept of a calibrated graph.

    Args:
        calibrated: whose grids have one scale each.
        given: the graph before the calibration, which is not kept if it is as it was.
    """
    figures = {
        "ranges": calibrated.parameters.ranges,
        "grids": {name: _grid_figures(grid) for name, grid in calibrated.grids.items()},
        "smoothed": dict(calibrated.smoothed),
        "notes": list(calibrated.notes),
        "shifts": list(calibrated.shifts),
        "rounded": list(calibrated.rounded),
    }
    arrays = [*calibrated.shifts.values(), *calibrated.rounded.values()]
    return _entry(figures, arrays, calibrated.model, given)


def _calibrated(entry: Entry, given: ir.Model, parameters: Quantize) -> Calibrated:
    """Return the calibrated graph of an entry.

    Args:
        entry: what ``_calibrated_entry`` returned.
        given: the graph before the calibration.
        parameters: of the step, which may prefer something else than the one that calibrated.
    """
    figures, arrays = entry.figures, iter(entry.arrays)
    shifts: Mapping[str, Floats] = {name: next(arrays) for name in figures["shifts"]}
    rounded: Mapping[str, Floats] = {name: next(arrays) for name in figures["rounded"]}
    return Calibrated(
        _graph_of([*arrays], given),
        parameters.model_copy(update={"ranges": figures["ranges"]}),
        {name: _grid(grid) for name, grid in figures["grids"].items()},
        figures["smoothed"],
        shifts,
        rounded,
        tuple(figures["notes"]),
    )


def _smoothed_entry(graph: Smoothed, given: ir.Model) -> Entry | None:
    """Return what is kept of a smoothed graph; ``given`` is the graph before it was smoothed."""
    return _entry(dict(graph.layers), [], graph.model, given)


def _smoothed(entry: Entry, given: ir.Model) -> Smoothed:
    """Return the smoothed graph of an entry; the arguments are as in ``_smoothed_entry``."""
    return Smoothed(_graph_of(entry.arrays, given), entry.figures)


def _entry(
    figures: Any,
    arrays: Sequence[NDArray[Any]],
    model: ir.Model | None = None,
    given: ir.Model | None = None,
) -> Entry | None:
    """Return what is kept of arrays and of a graph; None if a price list has no room for it.

    Args:
        figures: all that is no array.
        arrays: what is kept besides the graph.
        model: a graph, which is kept unless it is the given one.
        given: what the step began with.
    """
    changed = [] if model is None or model is given else [model]
    size = sum(array.nbytes for array in arrays) + sum(map(weight_bytes, changed))
    if size > MOST_PRICE_BYTES // 4:
        return None
    return Entry(figures, [*arrays, *map(_graph_bytes, changed)])


def _grid_figures(grid: Grid) -> dict[str, Any]:
    return {
        "scale": float(grid.scale),
        "zero_point": int(grid.zero_point),
        "dtype": str(grid.zero_point.dtype),
        "ends": grid.ends,
    }


def _grid(figures: Mapping[str, Any]) -> Grid:
    ends = figures["ends"]
    return Grid(
        np.array(figures["scale"], np.float32),
        np.array(figures["zero_point"], figures["dtype"]),
        ends=None if ends is None else (int(ends[0]), int(ends[1])),
    )


def _graph_bytes(model: ir.Model) -> NDArray[np.uint8]:
    """Return the bytes of a graph's file, ``[bytes]``."""
    with runtime.in_file(model) as path:
        return np.frombuffer(path.read_bytes(), np.uint8)


def _graph_of(arrays: Sequence[NDArray[np.uint8]], given: ir.Model) -> ir.Model:
    """Return the graph in arrays; the given graph if there is none."""
    if not arrays:
        return given
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        path.write_bytes(arrays[0].tobytes())
        model = load(path)
    model.metadata_props.update(given.metadata_props)
    return model
