"""A metric of the user's own: an ONNX graph that reads outputs by name and gives a number.

An input of it is called as an output of the job's model is, which it then reads; ``targets`` reads
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


class Source(NamedTuple):
    """What an input of a metric reads."""

    of: str
    """``outputs``, ``reference`` or ``targets``."""
    name: str
    """Of the output; of targets, the input's own."""


def source_of(name: str, outputs: Iterable[str]) -> Source | None:
    """Return what an input of a metric reads by its name, None where it is called as nothing is.

    ``targets`` are always the dataset's; an output's own name comes before ``reference.``.
    """
    known = set(outputs)
    if name == TARGETS:
        return Source("targets", name)
    if name in known:
        return Source("outputs", name)
    output = name.removeprefix(REFERENCE)
    return Source("reference", output) if output != name and output in known else None


def misfits(
    inputs: Sequence[TensorSpec],
    results: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    targets: Targets | None,
) -> Iterator[str]:
    """Yield why a metric cannot be computed, as far as descriptions tell.

    Args:
        inputs: of the metric.
        results: the metric's outputs.
        outputs: of the job's model.
        targets: of the dataset that is judged on; None without.
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
                f"Its input '{tensor.name}' is called as nothing that there is. Call it"
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


def _misfit(wanted: TensorSpec, given: TensorSpec, what: str) -> Iterator[str]:
    """Yield why an input of a metric cannot read an array."""
    if not castable(given.dtype, wanted.dtype):
        yield f"{what} is {given.dtype}, and its input '{wanted.name}' reads {wanted.dtype}."
    if not given.shape or not wanted.shape:  # a rank is not known
        return
    sizes = zip(given.shape[1:], wanted.shape[1:], strict=False)
    if len(given.shape) != len(wanted.shape) or any(
        isinstance(have, int) and isinstance(want, int) and have != want for have, want in sizes
    ):
        yield f"{what} is {_show(given)}, and its input '{wanted.name}' reads {_show(wanted)}."


def castable(given: str, wanted: str) -> bool:
    """Return whether values of one dtype are read as another: numbers never become coarser kinds.

    Whole numbers are read as floats too; what does not fit is found when values are read.
    """
    whole = given in _WHOLE
    return (given in _FLOATS or whole) and (wanted in _FLOATS or (whole and wanted in _WHOLE))


def _show(tensor: TensorSpec) -> str:
    return "[" + ", ".join(map(str, tensor.shape)) + "]"
