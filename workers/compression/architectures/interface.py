"""The inputs and outputs that a network must have to replace another one."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from app.domain.problems import StepFailed
from workers.compression.graph.shapes import dimension_names, inputs_of, symbolic

_MOST_ANSWERS = 65_536
_INSTEAD = "ask for 'student': {'derive': {'width': 0.5}} instead"
_INTEGERS = {ir.DataType.INT32, ir.DataType.INT64}


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a graph, and their shapes for one sample."""

    inputs: list[ir.Value]
    outputs: list[ir.Value]
    shapes: Mapping[str, tuple[int, ...]]
    """The shape of each input and output for one sample, by name."""

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Return an input's or output's shape for one sample, the batch included."""
        return self.shapes[str(value.name)]


def interface_of(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> Interface:
    """Return the inputs and outputs of a graph.

    Args:
        model: the graph that a new network replaces.
        shapes: the shape of each input and output for one sample, by name.

    Raises:
        StepFailed: an output is not a tensor of float32 with a fixed size for each sample.
    """
    moving = {name for _, name in symbolic(model)}
    for value in model.graph.outputs:
        names, sizes = dimension_names(value), shapes.get(str(value.name), ())
        fixed = not moving.intersection(names[1:])
        fits = value.dtype == ir.DataType.FLOAT and len(sizes) >= 2 and fixed
        if not fits or not 0 < prod(sizes[1:]) <= _MOST_ANSWERS:
            raise StepFailed(
                f"An architecture answers with a fixed number of float32 for each sample, and"
                f" output '{value.name}' is {names} of {value.dtype}: {_INSTEAD}."
            )
    return Interface(inputs_of(model), list(model.graph.outputs), shapes)


def image(interface: Interface, name: str) -> tuple[ir.Value, int, bool, int]:
    """Return the one input that holds images.

    Returns:
        The input, its number of channels, whether the channels are the last axis, and the shorter
        side of the images in pixels.

    Raises:
        StepFailed: the graph has other inputs, or the number of channels is not fixed.
    """
    value = interface.inputs[0]
    shape = interface.shape(value)
    if len(interface.inputs) != 1 or len(shape) != 4 or value.dtype != ir.DataType.FLOAT:
        raise refused(interface, name, "one input of float32 images, [batch, channels, h, w]")
    channels_last = shape[3] < shape[1]
    axis = 3 if channels_last else 1
    if value.shape is None or not isinstance(value.shape[axis], int):
        raise refused(interface, name, "images with a fixed number of channels")
    sides = shape[1:3] if channels_last else shape[2:4]
    return value, shape[axis], channels_last, min(sides)


def refused(interface: Interface, name: str, expected: str) -> StepFailed:
    """Return the error of an architecture that cannot read the graph's inputs.

    Args:
        interface: the graph's inputs and outputs.
        name: the architecture's name.
        expected: the inputs that the architecture can read, in words.
    """
    actual = "; ".join(f"'{v.name}' {dimension_names(v)} {v.dtype}" for v in interface.inputs)
    return StepFailed(f"'{name}' reads {expected}, and the model reads {actual}: {_INSTEAD}.")


def is_ids(value: ir.Value) -> bool:
    """Return whether an input holds integers, such as token ids."""
    return value.dtype in _INTEGERS
