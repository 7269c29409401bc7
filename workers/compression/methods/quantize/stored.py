"""Stores weights in few bits; the runtime unpacks them to float when it opens the session.

Weights are rounded to a grid, which ``graph/packing`` writes in few bits, or to the values of a
codebook. The weights of any operator can be stored so, such as embedding tables and recurrent
layers, and a run takes as long as before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from app.domain.steps.quantize import PACKED
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.forms import channels, has_four_bits, stored_bytes
from workers.compression.graph.narrow import stored_as
from workers.compression.graph.operators import channel_axis
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.cluster.codebooks import (
    FOUR_BITS,
    Codebook,
    channel_power,
    codebook_of,
    write_codebook,
)
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.integers import Floats, top_level
from workers.compression.methods.quantize.levels import Levels
from workers.compression.methods.weight_uses import WeightUse, unfit_weight, weight_uses

_LEAST_ELEMENTS = 1024
"""The least number of elements of a weight: for fewer, unpacking takes the bytes that are saved."""


@dataclass(frozen=True)
class Storing:
    """Stores the weights of a graph; what each is rounded to is found once, for all copies."""

    parameters: Quantize
    """The bits, and the ignored nodes."""
    learned: Mapping[str, Floats] = field(default_factory=dict)
    """Weights that are not rounded to nearest, by their names."""
    forms: dict[str, Levels | Codebook] = field(default_factory=dict)
    """What weights are rounded to, by their names, as far as it is known."""
    given: ir.Model | None = None
    """The graph whose types are told as those before; None for the one that is written."""

    def write(self, model: ir.Model, excluded: Mapping[str, str]) -> Outcome:
        """Return a copy of a graph with its weights in few bits.

        Args:
            model: the graph, not changed; weights of one name are the same in all that are given.
            excluded: nodes whose weights stay as they are, by name, each with the reason.
        """
        copy = model.clone()
        uses, skipped = weights_in(copy, self.parameters)
        skipped += [Skipped(node=name, reason=reason) for name, reason in excluded.items()]
        edit = Editor(copy)
        changes = [self._store(edit, use) for use in uses if use.name not in excluded]
        edit.remove_unused()
        return Outcome(copy, changes, skipped)

    def form(self, use: WeightUse, model: ir.Model) -> Levels | Codebook:
        """Return what a weight of a graph is rounded to."""
        if use.weight not in self.forms:
            self.forms[use.weight] = _form(use, self.parameters.weights, model)
        return self.forms[use.weight]

    def _store(self, edit: Editor, use: WeightUse) -> LayerChange:
        """Store a weight in few bits, in place."""
        array, form = constant(use.value), self.form(use, edit.model)
        dtype = stored_as(self.given or edit.model, array)
        wanted = self.learned.get(use.weight, array)
        if isinstance(form, Codebook):
            indices = form.indices(wanted)
            rounded = form.values(indices)
            write_codebook(edit, use.value, form, indices)
            bits, to = form.index_bits(edit.model), f"{len(form.centres)} shared values"
            size = form.nbytes(array.size, bits)
        else:
            rounded = form.nearest(wanted)
            use.value.const_value = ir.Tensor(rounded, name=use.value.name)
            axes = [str(axis) for axis, count in enumerate(form.step.shape) if count > 1]
            per = f"per channel of axis {' and '.join(axes)}" if axes else "per tensor"
            to, size = f"{self.parameters.weights} {per}", stored_bytes(rounded)
        return LayerChange(
            node=use.name,
            operator=use.node.op_type,
            change=f"weights {dtype} → {to}, unpacked when the session opens",
            bytes_before=array.size * dtype.itemsize,
            bytes_after=size,
            sqnr_db=sqnr_db(array, rounded),
        )


def weights_in(model: ir.Model, parameters: Quantize) -> tuple[list[WeightUse], list[Skipped]]:
    """Return each weight that can be stored in few bits once, and the refusals of the others."""

    def unfit(use: WeightUse) -> str | None:
        skip = parameters.skip(use.name, use.node.op_type)
        return skip.reason if skip is not None else _unfit(use, model)

    return weight_uses(model, unfit, "not stored in few bits")


def _unfit(use: WeightUse, model: ir.Model) -> str | None:
    """Return why a weight cannot be stored in few bits; None if it can."""
    if (reason := unfit_weight(use, model)) is not None:
        return reason
    size = constant(use.value).size
    few = f"it has {size} weights: to unpack them would take what is saved"
    return few if size < _LEAST_ELEMENTS else None


def _form(use: WeightUse, dtype: str, model: ir.Model) -> Levels | Codebook:
    """Return what a weight is rounded to: a grid, or a codebook where that errs less for its bytes.

    Four bits tell sixteen values apart, of which a grid has many where few weights are. Eight bits
    have values enough.
    """
    array, channel = constant(use.value), channel_axis(use.node)
    grid = grid_of(array, dtype, channel)
    if dtype not in PACKED or not has_four_bits(model):
        return grid
    codebook = codebook_of(array, channel, FOUR_BITS)
    power = channel_power(array, channel)
    on_grid, shared = grid.nearest(array), codebook.values(codebook.indices(array))
    sizes = stored_bytes(on_grid), codebook.nbytes(array.size, codebook.index_bits(model))
    costs = [
        _cost(array, rounded, power, size)
        for rounded, size in zip((on_grid, shared), sizes, strict=True)
    ]
    return grid if costs[0] <= costs[1] else codebook


def _cost(array: Floats, rounded: Floats, power: Floats, size: float) -> float:
    """Return the error of a rounded array for the bytes that it takes.

    Another bit for each weight would reduce the error's power to a quarter: bytes must do at least
    as well.

    Args:
        array: the array.
        rounded: what is stored of it.
        power: of each channel, by which errors are divided.
        size: the bytes that are counted.
    """
    error = float(np.sum(np.square(array - rounded) / power, dtype=np.float64))
    return float(error * 4.0 ** (size * 8 / array.size))


def grid_of(array: Floats, dtype: str, channel: int | None = None) -> Levels:
    """Return the symmetric grid that an array is rounded to.

    Its steps may differ along some axes, which are chosen by the bytes that the steps take.

    Args:
        array: a finite array of any shape.
        dtype: ``int4`` or ``int8``.
        channel: the axis of output channels. Errors then count relative to the power of each
            channel: what follows may multiply small channels. None counts them as they are.
    """
    top = top_level(dtype)
    power = channel_power(array, channel)
    best, least = Levels.grid(np.ones(1, np.float32), -top, top), np.inf
    for axes in channels(array.shape):
        other_axes = tuple(axis for axis in range(array.ndim) if axis not in axes)
        magnitude = np.abs(array).max(axis=other_axes, keepdims=True)
        steps = np.where(magnitude > 0, magnitude / np.float32(top), np.float32(1))
        grid = Levels.grid(steps, -top, top)
        cost = _cost(array, grid.nearest(array), power, steps.nbytes)
        if cost < least:
            best, least = grid, cost
    return best
