"""The weights of a result, under the names and in the layouts of the upload."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from app.domain.problems import DeliveryFailed
from app.domain.wording import listed
from workers.compression.delivery.home.origins import Follower, Origin, Origins, find_origins
from workers.compression.delivery.home.parts import Array
from workers.compression.delivery.home.results import places_left, values_of
from workers.compression.graph.kept import Kept

_NAMED = 3


@dataclass
class Home:
    """The upload's weights after the steps."""

    weights: dict[str, Array]
    """All of them, by name, in the types that they had."""
    kept: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    """By weight and axis: the indices that are left, where some are gone."""
    wide: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The shapes of the weights before the steps."""
    layers: dict[str, tuple[list[int], int]] = field(default_factory=dict)
    """By layer: the outputs that are left of how many, where some are gone."""
    unchanged: list[str] = field(default_factory=list)
    """Weights that are no part of the graph: they are as they were."""


def bring_home(weights: Mapping[str, Array], before: ir.Model, after: ir.Model, kept: Kept) -> Home:
    """Put the constants of a compressed graph into the weights that they come from.

    Args:
        weights: of the upload, by name.
        before: its graph in normal form.
        after: what steps made of that.
        kept: which indices of the first graph's constants are left.

    Raises:
        DeliveryFailed: a constant changed that is no weight of the upload, or a weight has become
            two.
    """
    origins = find_origins(before, weights)
    constants = {
        str(value.name): value.const_value.numpy()
        for node in ir.traversal.RecursiveGraphIterator(before.graph)
        for value in node.inputs
        if value is not None
        and value.const_value is not None
        and value.const_value.dtype == ir.DataType.FLOAT
    }
    given = values_of(before, after)
    _require_homes(origins, constants, given, kept)
    home = Home(dict(weights), wide={name: array.shape for name, array in weights.items()})
    filled: dict[str, Array] = {}
    for origin in origins.origins:
        array, axes = _weight(origin, weights[origin.weight], constants, given, kept)
        first = filled.setdefault(origin.weight, array)
        if first.shape != array.shape or not np.allclose(first, array, rtol=1e-4, atol=1e-6):
            raise DeliveryFailed(
                f"the weight '{origin.weight}' is read in two places of the graph, and the steps"
                " made two weights of it. Name the layers that share it in 'ignore', or deliver"
                " 'onnx'."
            )
        home.weights[origin.weight] = first
        if axes:
            home.kept[origin.weight] = axes
    for follower in origins.followers:
        _follow(follower, home, constants, kept)
    for layer, kernel in origins.layers.items():
        indices = kept.get(kernel.constant, {}).get(kernel.axis)
        if indices is not None:
            home.layers[layer] = indices, kernel.size
    known = {origin.weight for origin in origins.origins}
    known |= {follower.weight for follower in origins.followers}
    home.unchanged = [name for name in weights if name not in known]
    return home


def _require_homes(
    origins: Origins, constants: Mapping[str, Array], given: Mapping[str, Array], kept: Kept
) -> None:
    homes = {origin.constant for origin in origins.origins}
    lost = sorted(homes - set(given))
    strange = sorted(
        name
        for name, array in constants.items()
        if name not in homes
        and name in given
        and not _is_cut_of(array, given[name], kept.get(name))
    )
    for names, what in (
        (lost, "it lost constants that hold weights"),
        (strange, "its steps changed constants that are no weights of the upload"),
    ):
        if names:
            named = listed([f"'{name}'" for name in names], _NAMED)
            raise DeliveryFailed(
                f"the result cannot be brought back to the upload, as {what}: {named}."
            )


def _is_cut_of(before: Array, after: Array, axes: dict[int, list[int]] | None) -> bool:
    for axis, indices in (axes or {}).items():
        before = before.take(indices, axis=axis)
    return before.shape == after.shape and np.allclose(before, after, rtol=1e-6, atol=0)


def _weight(
    origin: Origin,
    weight: Array,
    constants: Mapping[str, Array],
    given: Mapping[str, Array],
    kept: Kept,
) -> tuple[Array, dict[int, list[int]]]:
    """Return a weight's values after the steps, and which of its indices are left by axis."""
    array = given[origin.constant].astype(np.float64)
    before = constants[origin.constant]
    places = places_left(before.shape, kept.get(origin.constant, {}))
    if np.count_nonzero(places >= 0) != array.size:
        raise DeliveryFailed(
            f"which channels of '{origin.weight}' are left is not known: its constant in the graph"
            f" has the shape {list(array.shape)}."
        )
    positions = origin.positions.reshape(-1)
    left = places[positions] >= 0
    values = array.reshape(-1)[places[positions[left]]]
    if origin.shift is not None:
        values = values - origin.shift.reshape(-1)[left]
    if origin.factor is not None:
        values = values / origin.factor.reshape(-1)[left]
    elements = np.arange(weight.size, dtype=np.int64).reshape(weight.shape)
    return _placed(weight, origin.view(elements).reshape(-1)[left], values, origin.weight)


def _placed(
    weight: Array, elements: Array, values: Array, name: str
) -> tuple[Array, dict[int, list[int]]]:
    """Put values into a weight without the removed indices.

    Args:
        weight: before the steps.
        elements: the positions of the values in the flattened weight.
        values: after the steps.
        name: of the weight, for messages.
    """
    if len(elements) == weight.size:
        whole = np.empty(weight.size, weight.dtype)
        whole[elements] = values
        return whole.reshape(weight.shape), {}
    coordinates = np.unravel_index(elements, weight.shape)
    left = [np.unique(axis) for axis in coordinates]
    sizes = [len(indices) for indices in left]
    if int(np.prod(sizes)) != len(elements):
        raise DeliveryFailed(
            f"what is left of the weight '{name}' is not a whole array in its layout."
        )
    narrow = np.empty(sizes, weight.dtype)
    narrow[tuple(np.searchsorted(a, c) for a, c in zip(left, coordinates, strict=True))] = values
    return narrow, {
        axis: indices.tolist()
        for axis, indices in enumerate(left)
        if len(indices) < weight.shape[axis]
    }


def _follow(follower: Follower, home: Home, constants: Mapping[str, Array], kept: Kept) -> None:
    """Cut a weight that has an element for each channel of a constant."""
    indices = kept.get(follower.constant, {}).get(follower.axis)
    array, channels = home.weights[follower.weight], constants[follower.constant].shape
    if indices is None or array.size != channels[follower.axis]:
        return
    longest = int(np.argmax(array.shape))
    home.weights[follower.weight] = array.take(indices, axis=longest)
    home.kept[follower.weight] = {longest: indices}
