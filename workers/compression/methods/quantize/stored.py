"""Stores weights in few bits; the runtime unpacks them to float when it opens the session.

Here weights are only rounded to a grid; ``graph/packing`` writes them in few bits. The weights of
any operator can be stored so, such as embedding tables and recurrent layers, and a run takes as
long as before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from workers.compression.graph.editor import constant
from workers.compression.graph.forms import channels, stored_bytes
from workers.compression.graph.narrow import stored_as
from workers.compression.graph.operators import (
    channel_axis,
    holds_unknown_weights,
    operand,
    operator_of,
)
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.integers import Floats, top_level

_LEAST_ELEMENTS = 1024
"""The least number of elements of a weight: for fewer, unpacking takes the bytes that are saved."""

_STEP_BITS = 32


@dataclass(frozen=True)
class WeightUse:
    """A weight, and the first node that reads it."""

    node: ir.Node
    value: ir.Value

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)

    @property
    def weight(self) -> str:
        """The weight's name."""
        return str(self.value.name)


def write_stored(
    model: ir.Model,
    parameters: Quantize,
    excluded: Mapping[str, str],
    learned: Mapping[str, Floats] = MappingProxyType({}),
) -> Outcome:
    """Return a copy of a graph whose weights are rounded to grids.

    Args:
        model: the graph; not changed.
        parameters: the step's parameters.
        excluded: nodes whose weights stay as they are, by name, each with the reason.
        learned: weights that are not rounded to nearest, by their names.
    """
    copy = model.clone()
    uses, skipped = weights_in(copy, parameters)
    skipped += [Skipped(node=name, reason=reason) for name, reason in excluded.items()]
    chosen = [use for use in uses if use.name not in excluded]
    changes = [_round(copy, use, parameters.weights, learned.get(use.weight)) for use in chosen]
    return Outcome(copy, changes, skipped)


def weights_in(model: ir.Model, parameters: Quantize) -> tuple[list[WeightUse], list[Skipped]]:
    """Return each weight that can be stored in few bits once, and the refusals of the others."""
    weights: dict[ir.Value, ir.Node] = {}
    skipped = []
    for node in model.graph.all_nodes():
        if holds_unknown_weights(node):
            left = f"weights of {node.op_type} are not stored in few bits"
            skipped.append(Skipped(node=str(node.name), reason=left))
        operator = operator_of(node)
        slots = operator.weights if operator is not None else ()
        for value in (operand(node, slot) for slot in slots):
            if value is None or not value.is_initializer() or value in weights:
                continue
            skip = parameters.skip(str(node.name), node.op_type)
            if skip is None and (reason := _unfit(value, model)) is not None:
                skip = Skipped(node=str(node.name), reason=reason)
            if skip is None:
                weights[value] = node
            else:
                skipped.append(skip)
    return [WeightUse(node, value) for value, node in weights.items()], skipped


def _unfit(value: ir.Value, model: ir.Model) -> str | None:
    """Return why a weight cannot be stored in few bits; None if it can."""
    if value.dtype != ir.DataType.FLOAT:
        return f"its weight is {value.dtype}, not float32"
    if value.graph is not model.graph or value.is_graph_output() or value.is_graph_input():
        return "its weight is an input or output of the graph, or of a branch or loop in it"
    array = constant(value)
    if array.size < _LEAST_ELEMENTS:
        return f"it has {array.size} weights: to unpack them would take what is saved"
    return None if np.isfinite(array).all() else "its weights are not all finite"


def _round(model: ir.Model, use: WeightUse, dtype: str, learned: Floats | None) -> LayerChange:
    """Round a weight to its grid, in place."""
    array = constant(use.value)
    quantized, axes = rounded(array, dtype, channel_axis(use.node))
    if learned is not None:
        quantized = learned
    stored_dtype = stored_as(model, array)
    use.value.const_value = ir.Tensor(quantized, name=use.value.name)
    axes_text = " and ".join(map(str, axes))
    per = f"per channel of axis {axes_text}" if axes else "per tensor"
    return LayerChange(
        node=use.name,
        operator=use.node.op_type,
        change=f"weights {stored_dtype} → {dtype} {per}, unpacked when the session opens",
        bytes_before=array.size * stored_dtype.itemsize,
        bytes_after=stored_bytes(quantized),
        sqnr_db=sqnr_db(array, quantized),
    )


def rounded(
    array: Floats, dtype: str, channel: int | None = None
) -> tuple[Floats, tuple[int, ...]]:
    """Round an array to the nearest levels of a symmetric grid; see ``steps_of``.

    Returns:
        The rounded array, and the axes along which the steps differ.
    """
    steps, axes = steps_of(array, dtype, channel)
    return _nearest(array, steps, dtype), axes


def steps_of(
    array: Floats, dtype: str, channel: int | None = None
) -> tuple[Floats, tuple[int, ...]]:
    """Return the steps of the symmetric grid that an array is rounded to.

    They may differ along some axes. These axes are chosen by the bytes of the steps: another bit
    for each weight would reduce the error's power to a quarter, and the bytes of the steps must do
    at least as well.

    Args:
        array: a finite array of any shape.
        dtype: ``int4`` or ``int8``.
        channel: the axis of output channels. Errors then count relative to the power of each
            channel: what follows may multiply small channels. None counts them as they are.

    Returns:
        The steps, which broadcast over the array, and the axes along which they differ.
    """
    top = np.float32(top_level(dtype))
    best: tuple[Floats, tuple[int, ...]] = (np.ones(1, np.float32), ())
    least = np.inf
    power = _power(array, channel)
    for axes in channels(array.shape):
        other_axes = tuple(axis for axis in range(array.ndim) if axis not in axes)
        magnitude = np.abs(array).max(axis=other_axes, keepdims=True)
        steps = np.where(magnitude > 0, magnitude / top, np.float32(1))
        quantized = _nearest(array, steps, dtype)
        error = float(np.sum(np.square(array - quantized) / power, dtype=np.float64))
        cost = error * 4.0 ** (steps.size * _STEP_BITS / array.size)
        if cost < least:
            best, least = (steps, axes), cost
    return best


def _nearest(array: Floats, steps: Floats, dtype: str) -> Floats:
    """Return an array on the nearest levels of a grid."""
    top = np.float32(top_level(dtype))
    nearest: Floats = np.clip(np.rint(array / steps), -top, top) * steps
    return nearest


def _power(array: Floats, channel: int | None) -> Floats:
    """Return the mean square of each channel, ``[…, channels, …]``; 1 without an axis."""
    if channel is None or array.ndim < 2:
        return np.ones(1, np.float32)
    other_axes = tuple(axis for axis in range(array.ndim) if axis != channel % array.ndim)
    power: Floats = np.square(array).mean(axis=other_axes, keepdims=True)
    return np.where(power > 0, power, np.float32(1))
