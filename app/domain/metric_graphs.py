"""A metric of the user's own: an ONNX graph that reads outputs by name and gives a number.

An input with the name of an output of the job's model reads that output; ``targets`` reads
the dataset's targets; ``reference.<output>`` reads the original model's output. Each is optional.
The first dimension of all of them counts samples. Its one output is a number for each sample, which
are averaged, or one number for all samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from app.domain.datasets import Targets
from app.domain.models import TensorSpec

TARGETS = "targets"
REFERENCE = "reference."

_FLOATS = ("float16", "float32", "float64")
_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


class InputSource(NamedTuple):
    """The array that an input of a metric reads."""

    of: str
    """``outputs``, ``reference`` or ``targets``."""
    name: str
    """The name of the output; for targets, that of the input."""


def source_of(name: str, outputs: Iterable[str]) -> InputSource | None:
    """Return the source of an input of a metric by its name, None if the name stands for nothing.

    ``targets`` are always the dataset's; an output's own name comes before ``reference.``.
    """
    output_names = set(outputs)
    if name == TARGETS:
        return InputSource("targets", name)
    if name in output_names:
        return InputSource("outputs", name)
    output = name.removeprefix(REFERENCE)
    return InputSource("reference", output) if output != name and output in output_names else None


def misfits(
    inputs: Sequence[TensorSpec],
    results: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    targets: Targets | None,
) -> Iterator[str]:
    """Yield the reasons why a metric cannot be computed, as far as descriptions tell.

    Args:
        inputs: the inputs of the metric.
        results: the outputs of the metric.
        outputs: the outputs of the job's model.
        targets: the targets of the dataset for the evaluation, if any.
    """
    if len(results) != 1:
        yield f"It has {len(results)} outputs: give it one, a number a sample or one for all."
    elif results[0].dtype not in _FLOATS + _WHOLE:
        yield f"Its output '{results[0].name}' is {results[0].dtype}: let it give numbers."
    shapes = {tensor.name: tensor for tensor in outputs}
    for tensor in inputs:
        source = source_of(tensor.name, shapes)
        if source is None:
            names = ", ".join([*shapes, TARGETS][:20])
            yield (
                f"There is no array of the name of its input '{tensor.name}'. Call the input"
                f" {names}, or '{REFERENCE}' and an output's name."
            )
        elif source.of != "targets":
            yield from _misfit(tensor, shapes[source.name], f"Output '{source.name}'")
        elif targets is None:
            yield f"It reads '{TARGETS}', and the dataset has none: name one that has."
        else:
            dtype = "float32" if targets.dtype.startswith("float") else "int64"
            held = TensorSpec(name=TARGETS, dtype=dtype, shape=targets.shape)
            yield from _misfit(tensor, held, "The dataset's 'targets'")


def _misfit(target: TensorSpec, array: TensorSpec, name: str) -> Iterator[str]:
    """Yield why an input of a metric cannot read an array."""
    if not castable(array.dtype, target.dtype):
        yield f"{name} is {array.dtype}, and its input '{target.name}' reads {target.dtype}."
    if not array.shape or not target.shape:  # a rank is not known
        return
    sizes = zip(array.shape[1:], target.shape[1:], strict=False)
    if len(array.shape) != len(target.shape) or any(
        isinstance(have, int) and isinstance(want, int) and have != want for have, want in sizes
    ):
        yield f"{name} is {_show(array)}, and its input '{target.name}' reads {_show(target)}."


def castable(dtype: str, target: str) -> bool:
    """Return whether values of one dtype are read as another: numbers never become coarser kinds.

    Integers are also read as floats; a value that does not fit is found when values are read.
    """
    is_integer = dtype in _WHOLE
    return (dtype in _FLOATS or is_integer) and (
        target in _FLOATS or (is_integer and target in _WHOLE)
    )


def _show(tensor: TensorSpec) -> str:
    return "[" + ", ".join(map(str, tensor.shape)) + "]"
