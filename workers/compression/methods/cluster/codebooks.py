"""A weight as a codebook, indices and scales: how it is found, what it takes, how it is written.

``Mul(Gather(codebook, Cast(indices)), scales)`` replaces a weight. BatchNorm is folded into
exported networks, so their channels differ by orders of magnitude: each output channel is divided
by its root mean square before the values are clustered. An index takes four bits for up to sixteen
values, else eight. Runtimes compute the weight once, when they load the graph: the file is smaller,
and the speed does not change.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import Editor
from workers.compression.graph.forms import has_four_bits
from workers.compression.learning.recovery import LEAST_ZEROS
from workers.compression.methods.cluster.kmeans import centres_of, nearest

FOUR_BITS = 16
"""The number of values that indices of four bits tell apart."""


@dataclass(frozen=True)
class Codebook:
    """The values that the elements of a weight share: ``centre · scale``."""

    centres: NDArray[np.float32]
    """``[clusters]``, sorted."""
    scales: NDArray[np.float32]
    """The scale of each output channel, in a shape that broadcasts to the weight."""

    def indices(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the index of the value nearest to each element, in the array's shape."""
        return nearest(array / self.scales, self.centres)

    def values(self, indices: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the values at indices."""
        return self.centres[indices] * self.scales

    def index_bits(self, model: ir.Model) -> int:
        """Return the bits of an index; graphs of an older opset have no type of four."""
        return 4 if has_four_bits(model) and len(self.centres) <= FOUR_BITS else 8

    def nbytes(self, size: int, index_bits: int) -> int:
        """Return the bytes in the file of a weight of ``size`` elements."""
        return (size * index_bits + 7) // 8 + self.centres.nbytes + self.scales.nbytes


def codebook_of(array: NDArray[np.float32], axis: int | None, clusters: int) -> Codebook:
    """Return the codebook of a weight.

    Args:
        array: finite weights of any shape.
        axis: the axis of output channels.
        clusters: the greatest number of values; zeros get one of their own where there are many.
    """
    scales = np.sqrt(channel_power(array, axis))
    sparse = np.count_nonzero(array == 0) >= LEAST_ZEROS * array.size
    return Codebook(centres_of(array / scales, clusters, zero=bool(sparse)), scales)


def channel_power(array: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """Return the mean square of each channel of a weight, in a shape that broadcasts to it.

    It is 1 for a channel of zeros, and without an axis of channels.
    """
    if axis is None or array.ndim < 2:
        return np.ones((1,) * array.ndim, np.float32)
    other_axes = tuple(other for other in range(array.ndim) if other != axis % array.ndim)
    power: NDArray[np.float32] = np.square(array).mean(axis=other_axes, keepdims=True)
    return np.where(power > 0, power, np.float32(1))


def write_codebook(
    edit: Editor, weight: ir.Value, codebook: Codebook, indices: NDArray[np.uint8]
) -> str:
    """Replace a weight by the look-up of its values; return the name of the codebook."""
    name = str(weight.name)
    narrow = codebook.index_bits(edit.model) == 4
    centres = edit.constant(f"{name}_codebook", codebook.centres)
    packed = edit.constant(
        f"{name}_indices", indices.astype(ml_dtypes.uint4) if narrow else indices
    )
    cast = edit.node("Cast", [packed], f"{name}_positions", to=ir.DataType.INT32)
    gather = edit.node("Gather", [centres, cast.outputs[0]], f"{name}_shared", axis=0)
    scales = edit.constant(f"{name}_scales", codebook.scales)
    scaled = edit.node("Mul", [gather.outputs[0], scales], f"{name}_scaled")
    value = scaled.outputs[0]
    value.shape, value.type = weight.shape, weight.type
    edit.graph.insert_before(edit.graph[0], [cast, gather, scaled])
    ir.convenience.replace_all_uses_with(weight, value)
    return str(centres.name)
