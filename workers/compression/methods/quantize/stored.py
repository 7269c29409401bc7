"""Weights stored in few bits, which are floats again once a session is open.

A weight is rounded to a grid, and that is all: how numbers of a grid lie in the file is said in
``graph/packing``. Any operator's weights can be stored so, embedding tables, recurrent layers and
those of branches and loops included, and a run takes as long as before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from workers.compression.graph.editor import constant
from workers.compression.graph.forms import channels, stored_bytes
from workers.compression.graph.narrow import stored_as
from workers.compression.graph.operators import operand, operator_of
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import retreat
from workers.compression.methods.quantize.integers import top_level
from workers.compression.samples.context import Context

Floats = NDArray[np.float32]

_LEAST_ELEMENTS = 1024
"""Below this the nodes that unpack a weight take what it saves."""

_STEP_BITS = 32


@dataclass(frozen=True)
class Held:
    """A weight, and the first node that reads it."""

    node: ir.Node
    value: ir.Value

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)


def store_weights(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Round weights to grids that are stored in four or eight bits.

    Where the job bounds its loss of quality, weights stay in float until the bound is kept.
    """
    held, _ = weights_in(model, parameters)
    names = list(dict.fromkeys(each.name for each in held))
    write = partial(write_stored, model, parameters)
    return retreat.within(write, model, names, context, advance)


def write_stored(model: ir.Model, parameters: Quantize, left: Mapping[str, str]) -> Outcome:
    """Return a copy of a graph whose weights lie on grids.

    Args:
        model: the graph; not changed.
        parameters: what to do.
        left: nodes whose weights stay as they are, each with the reason.
    """
    copy = model.clone()
    held, skipped = weights_in(copy, parameters)
    skipped += [Skipped(node=name, reason=reason) for name, reason in left.items()]
    chosen = [each for each in held if each.name not in left]
    return Outcome(copy, [_round(copy, each, parameters.weights) for each in chosen], skipped)


def weights_in(model: ir.Model, parameters: Quantize) -> tuple[list[Held], list[Skipped]]:
    """Return each weight that can be stored in few bits, once, and the others with the reason."""
    found: dict[ir.Value, ir.Node] = {}
    skipped = []
    for node in model.graph.all_nodes():
        operator = operator_of(node)
        slots = operator.weights if operator is not None else ()
        for value in (operand(node, slot) for slot in slots):
            if value is None or not value.is_initializer() or value in found:
                continue
            skip = parameters.skip(str(node.name), node.op_type)
            if skip is None and (reason := _unfit(value, model)) is not None:
                skip = Skipped(node=str(node.name), reason=reason)
            if skip is None:
                found[value] = node
            else:
                skipped.append(skip)
    return [Held(node, value) for value, node in found.items()], skipped


def _unfit(value: ir.Value, model: ir.Model) -> str | None:
    """Say why a weight cannot be stored in few bits."""
    if value.dtype != ir.DataType.FLOAT:
        return f"its weight is {value.dtype}, not float32"
    if value.graph is not model.graph or value.is_graph_output() or value.is_graph_input():
        return "its weight is an input or output of the graph, or of a branch or loop in it"
    array = constant(value)
    if array.size < _LEAST_ELEMENTS:
        return f"it has {array.size} weights: to unpack them would take what is saved"
    return None if np.isfinite(array).all() else "its weights are not all finite"


def _round(model: ir.Model, held: Held, dtype: str) -> LayerChange:
    """Put a weight on its grid, in place."""
    array = constant(held.value)
    near, axes = rounded(array, dtype)
    before = stored_as(model, array)
    held.value.const_value = ir.Tensor(near, name=held.value.name)
    along = " and ".join(map(str, axes))
    per = f"a step for each place along axis {along}" if axes else "one step"
    return LayerChange(
        node=held.name,
        operator=held.node.op_type,
        change=f"weights {before} → {dtype}, {per}, unpacked when the session opens",
        bytes_before=array.size * before.itemsize,
        bytes_after=stored_bytes(near),
        sqnr_db=sqnr_db(array, near),
    )


def rounded(array: Floats, dtype: str) -> tuple[Floats, tuple[int, ...]]:
    """Return the nearest numbers of a symmetric grid, and the axes along which its steps differ.

    Of all such axes those are taken that are worth their bytes: a bit more for each weight would
    lessen the error's power to a quarter, and steps have to do as well.

    Args:
        array: finite, of any shape.
        dtype: ``int4`` or ``int8``.
    """
    top = np.float32(top_level(dtype))
    best: tuple[Floats, tuple[int, ...]] = (array, ())
    least = np.inf
    for axes in channels(array.shape):
        others = tuple(axis for axis in range(array.ndim) if axis not in axes)
        most = np.abs(array).max(axis=others, keepdims=True)
        steps = np.where(most > 0, most / top, np.float32(1))
        near = np.clip(np.rint(array / steps), -top, top) * steps
        error = float(np.sum(np.square(array - near), dtype=np.float64))
        cost = error * 4.0 ** (steps.size * _STEP_BITS / array.size)
        if cost < least:
            best, least = (near, axes), cost
    return best
