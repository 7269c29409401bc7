"""Which weight of an upload each constant of its graph is.

Exporters rename, transpose, scale and merge weights, each exporter in another way. So weights are
recognised by their values, and a match is verified element by element:

1. A constant, or a part of it, with the same bytes as a weight is that weight.
2. The kernel of a layer that is a weight times a factor for each output channel is that weight.
   The factor comes from a normalisation or a scaled input; it is kept, and divided out later.
3. A vector that is the factor of a normalisation is its ``gamma``.
4. The bias of a layer with a factor is the ``beta`` of the normalisation with this factor. Without
   such a normalisation it is the layer's bias in the upload.

Weights with equal values, such as biases of zeros, are distinguished by the name of the layer, and
by the order of the layers. Exporters may make one constant of them, which then is all of them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from workers.compression.delivery.home.parts import (
    Array,
    Positions,
    View,
    is_learned,
    parts_of,
    views_of,
)
from workers.compression.delivery.home.scales import (
    BETA,
    TOLERANCE,
    Floats,
    Weights,
    ending_of,
    factors,
    layer_of,
    norms_of,
)
from workers.compression.graph.operators import bias_of, channel_axis, is_layer, operand

_Candidate = tuple[str, View]
"""The name of a weight, and how its elements are brought into the order of a constant."""


@dataclass(frozen=True)
class Origin:
    """A weight, and where its values are in the graph: constant = weight · factor + shift."""

    weight: str
    constant: str
    view: View
    """Brings the weight's elements into the order of ``positions``."""
    positions: Positions
    """Where the elements are in the flattened constant."""
    factor: Floats | None = None
    """Of the shape of ``positions``; None means 1."""
    shift: Floats | None = None
    """Of the shape of ``positions``; None means 0."""


@dataclass(frozen=True)
class Follower:
    """A weight that is no constant of the graph, with an element for each channel of one."""

    weight: str
    constant: str
    axis: int
    """The axis of the constant that counts those channels."""


@dataclass(frozen=True)
class Kernel:
    """The constant of a layer's kernel."""

    constant: str
    axis: int
    """The axis that counts the layer's outputs."""
    size: int


@dataclass
class Origins:
    """Everything that is known of the weights of an upload."""

    origins: list[Origin] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    layers: dict[str, Kernel] = field(default_factory=dict)
    """By the name of the layer, which is common to the names of its weights."""


def find_origins(model: ir.Model, weights: Weights) -> Origins:
    """Find the weights of an upload in its graph.

    Args:
        model: in normal form, before any step.
        weights: of the upload by name, in the upload's order.
    """
    return _Search(model, weights).run()


class _Search:
    def __init__(self, model: ir.Model, weights: Weights) -> None:
        self._weights = {
            name: array for name, array in weights.items() if array.dtype.kind == "f" and array.size
        }
        self._nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
        self._by_digest = _by_digest(self._weights)
        self._norms = list(norms_of(self._weights))
        self._taken: set[str] = set()
        self._seen: set[ir.Value] = set()
        self._result = Origins()

    def run(self) -> Origins:
        """Look at every constant: kernels first, because they tell which bias is whose."""
        for node in self._nodes:
            if is_layer(node) and (weight := _constant(node, 1)) is not None:
                self._find_layer(node, weight)
        for node in self._nodes:
            layer: str | None = None
            for slot in range(len(node.inputs)):
                value = _constant(node, slot)
                if value is not None and value not in self._seen:
                    self._seen.add(value)
                    layer = self._find_parts(node, slot, value, layer)
        self._share_constants()
        for layer, kernel in self._result.layers.items():
            biases = [name for name in self._biases(layer) if self._size(name) == kernel.size]
            self._follow(biases, kernel.constant, kernel.axis)
        return self._result

    def _find_layer(self, node: ir.Node, weight: ir.Value) -> None:
        """Find the kernel and the bias of a layer."""
        if weight in self._seen:
            return
        self._seen.add(weight)
        array = _array(weight)
        positions = np.arange(array.size, dtype=np.int64).reshape(array.shape)
        origin = self._find_equal(weight, positions, None) or self._find_scaled(node, weight)
        if origin is None:
            return
        axis, layer = (channel_axis(node) or 0) % array.ndim, layer_of(origin.weight)
        self._result.layers[layer] = Kernel(str(weight.name), axis, array.shape[axis])
        bias = _bias(node)
        if bias is None or bias in self._seen:
            return
        self._seen.add(bias)
        if origin.factor is None:
            self._find_equal(bias, np.arange(_array(bias).size, dtype=np.int64), layer)
            return
        factor, kernel = (
            np.moveaxis(each, axis, 0).reshape(array.shape[axis], -1)
            for each in (origin.factor, array)
        )
        self._find_bias(bias, np.where(kernel.any(axis=1), factor[:, 0], np.nan), layer)

    def _find_parts(
        self, node: ir.Node, slot: int, value: ir.Value, layer: str | None
    ) -> str | None:
        """Find the weights that a constant consists of; return the layer of the last one.

        A constant that repeats one number may be anything: it is a weight only where the operator
        has one.
        """
        array = _array(value)
        if not np.ptp(array) and not is_learned(node, slot):
            return layer
        for alternatives in parts_of(node, slot, array.shape):
            known = [
                [part for part in parts if self._candidates(array, part)] for parts in alternatives
            ]
            best = max(known, key=lambda parts: sum(part.size for part in parts))
            if not best and array.size > 1:
                self._find_gamma(value)
            for part in best:
                origin = self._find_equal(value, part, layer)
                layer = layer_of(origin.weight) if origin is not None else layer
        return layer

    def _candidates(self, array: Array, positions: Positions) -> Sequence[_Candidate]:
        part = np.ascontiguousarray(array.reshape(-1)[positions])
        candidates = self._by_digest.get(_digest(part), ())
        return candidates if np.ptp(part) else [c for c in candidates if c[0] not in self._taken]

    def _find_equal(
        self, value: ir.Value, positions: Positions, layer: str | None
    ) -> Origin | None:
        """Take the weight with the same bytes as a part; of several, the one of the layer."""
        candidates = self._candidates(_array(value), positions)
        free = [candidate for candidate in candidates if candidate[0] not in self._taken]
        same_layer = [candidate for candidate in free if layer_of(candidate[0]) == layer]
        chosen = next(iter(same_layer or free or candidates), None)
        if chosen is None:
            return None
        return self._take(Origin(chosen[0], str(value.name), chosen[1], positions))

    def _find_scaled(self, node: ir.Node, value: ir.Value) -> Origin | None:
        """Take the weight that differs from a kernel by a factor for each output channel."""
        kernel = _array(value)
        axis = (channel_axis(node) or 0) % kernel.ndim
        positions = np.arange(kernel.size, dtype=np.int64).reshape(kernel.shape)
        for name, array in self._weights.items():
            if array.size != kernel.size or array.ndim < 2 or name in self._taken:
                continue
            for view in views_of(array.ndim):
                weight = view(array).reshape(kernel.shape)
                if factors(kernel.take([0], axis), weight.take([0], axis), axis) is None:
                    continue
                factor = factors(kernel, weight, axis)
                if factor is not None:
                    spread = np.broadcast_to(factor, kernel.shape)
                    return self._take(Origin(name, str(value.name), view, positions, spread))
        return None

    def _find_gamma(self, value: ir.Value) -> None:
        """Take the gamma of the normalisation whose factor a vector is."""
        array = _array(value)
        factor = array.reshape(-1).astype(np.float64)
        for norm in self._norms:
            if norm.gamma is None or norm.gamma in self._taken:
                continue
            if norm.whole_factor(self._weights, factor) is not None:
                gamma = self._weights[norm.gamma].reshape(-1).astype(np.float64)
                ratio = np.where(gamma != 0, factor / np.where(gamma != 0, gamma, 1), 1)
                positions = np.arange(array.size, dtype=np.int64)
                self._take(Origin(norm.gamma, str(value.name), _as_it_is, positions, ratio))
                self._follow(norm.names, str(value.name), int(np.argmax(array.shape)))
                return

    def _find_bias(self, value: ir.Value, factor: Floats, layer: str) -> None:
        """Find the origin of the bias of a layer whose kernel has a factor.

        The factor is not a number in channels of zeros, which do not tell it.
        """
        name, bias = str(value.name), _array(value).reshape(-1).astype(np.float64)
        plain = next((n for n in self._biases(layer) if self._size(n) == bias.size), None)
        unscaled = 0.0 if plain is None else self._weights[plain].astype(np.float64)
        explained = (
            (norm, norm.explained(self._weights, factor, bias, unscaled))
            for norm in self._norms
            if norm.mean not in self._taken
        )
        fitting = ((norm, whole) for norm, whole in explained if whole is not None)
        norm, factor = next(fitting, (None, np.nan_to_num(factor, nan=1.0)))
        positions = np.arange(bias.size, dtype=np.int64)
        if norm is not None and norm.beta is not None:
            shift = bias - self._weights[norm.beta]
            origin = Origin(norm.beta, name, _as_it_is, positions, None, shift)
        elif norm is not None:
            shift = bias + self._weights[norm.mean] * factor
            origin = Origin(norm.mean, name, _as_it_is, positions, -factor, shift)
        elif plain is not None:
            shift = bias - unscaled * factor
            origin = Origin(plain, name, _as_it_is, positions, factor, shift)
        else:
            return
        self._take(origin)
        followers = list(self._equal_to(factor)) if norm is None else norm.names
        self._follow([*followers, *([plain] if plain else [])], name, 0)

    def _share_constants(self) -> None:
        """Give a weight without a constant the constant of a weight with equal values."""
        known = {(origin.weight, origin.view): origin for origin in self._result.origins}
        for candidates in self._by_digest.values():
            origin = next(
                (known[candidate] for candidate in candidates if candidate in known), None
            )
            for name, view in candidates:
                if origin is not None and name not in self._taken:
                    self._take(replace(origin, weight=name, view=view))

    def _take(self, origin: Origin) -> Origin:
        self._taken.add(origin.weight)
        self._result.origins.append(origin)
        return origin

    def _follow(self, names: Sequence[str], constant: str, axis: int) -> None:
        for name in names:
            if name not in self._taken:
                self._taken.add(name)
                self._result.followers.append(Follower(name, constant, axis))

    def _biases(self, layer: str) -> Iterator[str]:
        """Yield the biases that a layer has in the upload."""
        for name in self._weights:
            if layer_of(name) == layer and ending_of(name) in BETA:
                yield name

    def _size(self, weight: str) -> int:
        return int(self._weights[weight].size)

    def _equal_to(self, factor: Floats) -> Iterator[str]:
        """Yield the weights that are a factor: scales of layers."""
        for name, array in self._weights.items():
            if array.size == factor.size and np.allclose(array.reshape(-1), factor, rtol=TOLERANCE):
                yield name


def _as_it_is(array: Array) -> Array:
    return array


def _by_digest(weights: Weights) -> dict[bytes, list[_Candidate]]:
    candidates: dict[bytes, list[_Candidate]] = {}
    for name, array in weights.items():
        seen = set[bytes]()
        for view in views_of(array.ndim):
            digest = _digest(np.ascontiguousarray(view(array)))
            if digest not in seen:
                seen.add(digest)
                candidates.setdefault(digest, []).append((name, view))
    return candidates


def _digest(array: Array) -> bytes:
    """Return a digest of an array's elements, whatever its shape; a negative zero is a zero."""
    return hashlib.sha256((array.reshape(-1).astype(np.float32) + 0.0).tobytes()).digest()


def _constant(node: ir.Node, slot: int) -> ir.Value | None:
    value = operand(node, slot)
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value if value.const_value.dtype == ir.DataType.FLOAT else None


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy()


def _bias(node: ir.Node) -> ir.Value | None:
    """Return the bias of a layer: its input, or the constant that is added to a product."""
    bias = bias_of(node)
    if bias is not None:
        return bias if bias.const_value is not None else None
    readers = [reader for reader, _ in node.outputs[0].uses()]
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    constants = (_constant(readers[0], slot) for slot in (0, 1))
    return next((value for value in constants if value is not None), None)
