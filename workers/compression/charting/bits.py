"""Layers that compute in int8, or whose weights are stored in few bits."""

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.sensitivity import Form, Saved
from app.domain.steps import Quantize
from workers.compression.charting.changes import Change, Refused
from workers.compression.charting.subject import Subject, reasons_of
from workers.compression.graph.editor import constant
from workers.compression.graph.operators import is_layer
from workers.compression.graph.weights import weights_of
from workers.compression.measure.clock import Shape, alone
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.calibrated import calibrate_best
from workers.compression.methods.quantize.integers import range_grid
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.pairs import site_of, write_quantized
from workers.compression.methods.quantize.stored import Storing, weights_in
from workers.compression.samples.context import Feeds

_INT8 = Quantize(mode="static", ranges="percentile", smooth=False)
"""One way to find ranges, so that only one is calibrated."""

_STORED_INT8 = Quantize(mode="weight_only", unpack="load", weights="int8")
_STORED_INT4 = Quantize(mode="weight_only", unpack="load", weights="int4")

_RANGE = 4.0
"""Of the values that a layer is timed with: its time does not depend on them."""

_Write = Callable[[Mapping[str, str]], Outcome]
"""Quantizes a copy of the graph but for some nodes, by name, each with a reason."""


class Bits:
    """Makes graphs with one layer in few bits; int8 is calibrated once, when it is first needed.

    Args:
        subject: the graph.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def change(self, form: Form, name: str) -> Change | Refused:
        """Return the graph with one layer in few bits, or the reason why there is none.

        Args:
            form: the few bits: int8, or weights that are stored in float16, int8 or int4.
            name: the layer.
        """
        match form.name:
            case "int8":
                return self._in_integers(name)
            case "stored_float16":
                return _halved(self._subject, name)
            case "stored_int8":
                return _stored(self._subject, _STORED_INT8, name)
            case _:
                return _stored(self._subject, _STORED_INT4, name)

    @cached_property
    def _write(self) -> _Write | Refused:
        subject = self._subject
        try:
            calibrated = calibrate_best(subject.model, _INT8, subject.context, lambda _done: None)
        except StepFailed as failed:
            return Refused(str(failed))
        return calibrated.writer()

    def _in_integers(self, name: str) -> Change | Refused:
        """Return the graph with one layer in int8."""
        subject, write = self._subject, self._write
        if isinstance(write, Refused):
            return write
        layers, skipped = select(subject.model, _INT8)
        names = [str(layer.node.name) for layer in layers if layer.integer]
        if name not in names:
            return Refused(reasons_of(skipped).get(name, "there is no int8 kernel for it"))
        others = [str(layer.node.name) for layer in layers if str(layer.node.name) != name]
        outcome = write(dict.fromkeys(others, ""))
        if not outcome.layers:
            return Refused(reasons_of(outcome.skipped).get(name, "it stays in float"))
        before = subject.time(name)
        saved = subject.saved(_fewer_bytes(outcome), 0, before, before and self._time(name))
        return Change(outcome.model, saved, ("int8", name))

    def _time(self, name: str) -> float | None:
        """Return the milliseconds of the layer in int8, its values converted at both ends."""
        subject, node = self._subject, self._subject.nodes[name]
        shapes = _shapes(node, subject)
        if shapes is None:
            return None
        try:
            return subject.times.of(node, shapes, lambda: _integer_piece(node, shapes), "int8")
        except Exception:  # noqa: BLE001 (a layer that does not run alone is not timed)
            return None


def _shapes(node: ir.Node, subject: Subject) -> tuple[Shape | None, ...] | None:
    """Return the shapes of a layer's inputs in one run; None where they are not known."""
    if not is_layer(node):
        return None
    sample = subject.survey.sample
    shapes = tuple(None if v is None else sample.get(str(v.name)) for v in node.inputs)
    constants = tuple(
        v.shape.numpy() if s is None and v is not None and v.const_value is not None and v.shape
        else s
        for v, s in zip(node.inputs, shapes, strict=True)
    )  # fmt: skip
    return None if None in constants[:2] else constants


def _integer_piece(node: ir.Node, shapes: tuple[Shape | None, ...]) -> tuple[ir.Model, Feeds]:
    """Return a graph of one layer in int8, and what it reads."""
    model, feeds = alone(node, shapes)
    sites = [site_of(layer, _INT8) for layer in select(model, _INT8)[0]]
    grid = range_grid(-_RANGE, _RANGE, _INT8.activations, symmetric=False)
    grids = {str(value.name): grid for site in sites for value in site.values}
    return write_quantized(model, _INT8, grids, {}).model, feeds


def _stored(subject: Subject, parameters: Quantize, name: str) -> Change | Refused:
    """Return the graph with the weights of one layer stored in few bits."""
    uses, skipped = weights_in(subject.model, parameters)
    names = {use.name for use in uses}
    if name not in names:
        return Refused(reasons_of(skipped).get(name, "its weight is stored with another node"))
    others = dict.fromkeys(names - {name}, "")
    outcome = Storing(parameters).write(subject.model, others)
    saved = _same_time(_fewer_bytes(outcome))
    return Change(outcome.model, saved, (parameters.weights, name))


def _halved(subject: Subject, name: str) -> Change | Refused:
    """Return the graph with the weights of one layer rounded to float16."""
    model = subject.model.clone()
    node = next(node for node in model.graph if node.name == name)
    saved = 0
    for weight in weights_of(node):
        value = weight.value
        if value.is_initializer() and value.dtype == ir.DataType.FLOAT:
            array = constant(value)
            halves = array.astype(np.float16)
            if not np.isfinite(halves).all():
                return Refused("its weights do not fit float16")
            value.const_value = ir.Tensor(halves.astype(np.float32), name=value.name)
            saved += array.nbytes // 2
    if not saved:
        return Refused("its weights are not float32")
    return Change(model, _same_time(saved), ("float16", name))


def _fewer_bytes(outcome: Outcome) -> int:
    return sum(layer.bytes_before - layer.bytes_after for layer in outcome.layers)


def _same_time(size_bytes: int) -> Saved:
    """Return what stored weights save: they are floats again once a session is open."""
    return Saved(size_bytes=size_bytes, macs=0, latency_ms=0.0, latency_from="same")
