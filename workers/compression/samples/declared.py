"""What a graph itself says of the values that its inputs may have.

Nobody who uploads a model alone says what it reads, but its first layers do: a Gather of a table
reads ids of the table's rows; what is subtracted and divided by is the mean and the deviation of
what comes in; a BatchNormalization has measured both; an 8-bit picture lies between 0 and 255.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.chosen_rows import choosers
from workers.compression.graph.shapes import inputs_of

Array = NDArray[np.float64]

_AFFINE = frozenset({"Add", "Sub", "Mul", "Div"})
_USUAL = 4.0
"""Median deviations that the norm of a table's row lies from the median of all, at most: rows that
no training has reached, or that stand for padding, are often further away."""

_LEAST_SIDE = 4
"""Of a picture."""
_LEAST_BOUND, _SOUND = 100, 1000
"""What numbers are divided by that lie between 0 and it, as pictures do; above the second one they
have both signs, as sound does."""


@dataclass(frozen=True)
class Floats:
    """What is known of numbers: they vary about a mean, within bounds."""

    mean: Array = field(default_factory=lambda: np.zeros(()))
    """It spreads over a sample, ``[…]``."""
    deviation: Array = field(default_factory=lambda: np.ones(()))
    low: float = -np.inf
    high: float = np.inf
    known: bool = False
    """Whether the graph says so; else they are taken for normalised."""


@dataclass(frozen=True)
class Ids:
    """Whole numbers that choose rows of tables."""

    rows: NDArray[np.int64]
    """Those that may be chosen."""


@dataclass(frozen=True)
class Flags:
    """Whole numbers or truth values that choose no row: masks, lengths, switches."""


Declared = Floats | Ids | Flags


def declared(model: ir.Model) -> dict[str, Declared]:
    """Return what a graph says of each input, by name.

    Args:
        model: a graph whose constants are initializers; best as it was uploaded, because the
            normal form has folded normalisations away.
    """
    return {str(value.name): _declared(value) for value in inputs_of(model)}


def _declared(value: ir.Value) -> Declared:
    dtype = value.dtype
    if dtype is None or dtype in {ir.DataType.STRING, ir.DataType.BOOL}:
        return Flags()
    tables = list(_tables(value))
    if tables and dtype.is_integer():
        return Ids(_usual_rows(tables))
    if dtype.is_floating_point() or dtype == ir.DataType.UINT8:
        return _numbers(value)
    return Flags()


def _tables(value: ir.Value) -> Iterator[Array | int]:
    """Yield the tables whose rows a value chooses, or the number of classes of a OneHot."""
    for node, chosen_from in choosers(value):
        table = _constant(chosen_from)
        if table is None:
            continue
        if node.op_type != "OneHot" and table.ndim:
            yield np.moveaxis(table, node.attributes.get_int("axis", 0), 0)
        elif node.op_type == "OneHot" and table.size == 1:
            yield int(table.reshape(-1)[0])


def _usual_rows(tables: list[Array | int]) -> NDArray[np.int64]:
    """Return the rows that all tables have and whose norms are like those of the others."""
    count = max(min(each if isinstance(each, int) else len(each) for each in tables), 1)
    usual = np.ones(count, bool)
    for table in tables:
        if isinstance(table, int) or table.ndim < 2:
            continue
        norms = np.sqrt(np.square(table[:count].reshape(count, -1)).sum(1))
        middle = np.median(norms)
        spread = np.median(np.abs(norms - middle))
        usual &= np.abs(norms - middle) <= _USUAL * spread + 1e-6 * middle
    rows = np.flatnonzero(usual)
    return (rows if len(rows) else np.arange(count)).astype(np.int64)


def _numbers(value: ir.Value) -> Floats:
    """Return what is known of numbers from what is computed of them first, ``a·x + b``."""
    whole = value.dtype == ir.DataType.UINT8
    low, high = (0.0, 255.0) if whole else (-np.inf, np.inf)
    usual = Floats(np.asarray(127.5), np.asarray(64.0), known=True) if whole else Floats()
    rank = len(value.shape or ())
    factor, shift, each = np.ones(()), np.zeros(()), value
    while (step := _next(each)) is not None:
        node, slot = step
        if node.op_type in _AFFINE:
            constant = _of_sample(_constant(node.inputs[1 - slot]), rank)
            if constant is None or (node.op_type == "Div" and slot == 1):
                break
            factor, shift = _after(node.op_type, slot, constant, factor, shift)
        elif node.op_type == "BatchNormalization":
            mean, variance = (_constant(node.inputs[place]) for place in (3, 4))
            if mean is None or variance is None or rank < 2:
                break
            mean, variance = (each.reshape(-1, *[1] * (rank - 2)) for each in (mean, variance))
            found = Floats((mean - shift) / factor, np.sqrt(variance) / np.abs(factor), known=True)
            return replace(found, low=low, high=high)
        each = node.outputs[0]
    scaled = bool(np.isfinite(factor).all()) and bool(factor.all())
    if not scaled or (bool((factor == 1).all()) and not shift.any()):
        return replace(usual, low=low, high=high)
    if shift.any():
        return Floats(-shift / factor, 1 / np.abs(factor), low, high, known=True)
    most = 1 / np.abs(factor)
    if most.min() < _LEAST_BOUND:  # a scale inside of the network
        return replace(usual, low=low, high=high)
    if most.min() > _SOUND:
        return Floats(np.zeros(()), most / 8, -float(most.max()), float(most.max()), known=True)
    return Floats(most / 2, most / 4, 0.0, float(most.max()), known=True)


def _next(value: ir.Value) -> tuple[ir.Node, int] | None:
    """Return the one node that reads a value, and as what, where it hands on its elements."""
    uses = value.uses()
    if len(uses) != 1:
        return None
    ((node, slot),) = uses
    if node.op_type in _AFFINE or (slot == 0 and node.op_type in {"Cast", "Identity"}):
        return node, slot
    return (node, slot) if slot == 0 and node.op_type == "BatchNormalization" else None


def _after(
    kind: str, slot: int, constant: Array, factor: Array, shift: Array
) -> tuple[Array, Array]:
    """Return factor and shift after one more operation with a constant."""
    match kind:
        case "Add":
            return factor, shift + constant
        case "Sub" if slot == 0:
            return factor, shift - constant
        case "Sub":
            return -factor, constant - shift
        case "Mul":
            return factor * constant, shift * constant
        case _:
            return factor / constant, shift / constant


def _of_sample(constant: Array | None, rank: int) -> Array | None:
    """Return a constant as it spreads over one sample; None where samples differ in it."""
    if constant is None or constant.ndim > rank:
        return None
    if constant.ndim == rank and rank:
        return constant[0] if constant.shape[0] == 1 else None
    return constant


def _constant(value: ir.Value | None) -> Array | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy().astype(np.float64)


def arrays(
    known: Mapping[str, Declared], drawn: Mapping[str, NDArray[Any]], seed: int
) -> dict[str, NDArray[Any]]:
    """Return samples of declared values.

    Args:
        known: of each input.
        drawn: samples that the model accepts, ``[samples, …]``: shapes and types are theirs.
        seed: of the values.
    """
    random = np.random.default_rng(seed)
    return {name: _values(known.get(name, Flags()), array, random) for name, array in drawn.items()}


def _values(known: Declared, like: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    match known:
        case Ids(rows):
            return random.choice(rows, like.shape).astype(like.dtype)
        case Floats():
            return numbers(known, noise(like.shape, random), like.dtype)
        case Flags():
            several = like.ndim > 1 and like.dtype.kind in "iub"
            return np.ones_like(like) if several else like


def numbers(known: Floats, standard: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers of mean 0 and variance 1, ``[samples, …]``, as the graph expects them."""
    values: NDArray[Any] = np.clip(known.mean + known.deviation * standard, known.low, known.high)
    rounded: NDArray[Any] = np.rint(values) if dtype.kind in "iu" else values
    return rounded.astype(dtype)


def sides(shape: Sequence[int]) -> tuple[int, int] | None:
    """Return the axes of height and width in what may be pictures; None where it may not.

    Args:
        shape: ``[samples, C, H, W]``, or ``[samples, H, W, C]`` with fewer channels than sides.
    """
    if len(shape) != 4 or min(shape[1:]) == 0:
        return None
    axes = (1, 2) if shape[3] < min(shape[1:3]) else (2, 3)
    return axes if min(shape[axis] for axis in axes) >= _LEAST_SIDE else None


def noise(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """Return noise of about mean 0 and variance 1, ``[samples, …]``.

    What may be pictures, ``[samples, C, H, W]`` or ``[samples, H, W, C]``, is smooth, as real ones
    are: the power of a frequency falls with its square (Field 1987). Brightness and contrast differ
    from sample to sample.
    """
    white = random.standard_normal(shape, dtype=np.float32)
    axes = sides(shape)
    if axes is None:
        return white
    frequencies = [np.fft.fftfreq(shape[axis]) * shape[axis] for axis in axes]
    distance = np.maximum(np.hypot(frequencies[0][:, None], frequencies[1][None]), 1.0)
    spread = [1] * 4
    spread[axes[0]], spread[axes[1]] = shape[axes[0]], shape[axes[1]]
    fields = np.fft.ifft2(np.fft.fft2(white, axes=axes) / distance.reshape(spread), axes=axes).real
    deviation = fields.std(axes, keepdims=True)
    fields = fields / np.maximum(deviation, 1e-6)
    contrast = random.uniform(0.4, 1.2, (shape[0], 1, 1, 1))
    brightness = random.standard_normal((shape[0], 1, 1, 1)) * 0.5
    pictures: NDArray[np.float32] = (contrast * fields + brightness).astype(np.float32)
    return pictures
