"""Which weight of an upload each constant of its graph is.

Exporters rename, turn, scale and merge weights, each in its own way. So weights are found by their
values, and nothing is believed that the values do not say:

1. A constant, or a part of it, that has the very bytes of a weight is that weight.
2. The kernel of a layer that is a weight times a factor for each output channel is that weight;
   the factor (of a normalisation, of a scaled input) is kept and divided out again.
3. A vector that is the factor of a normalisation, or of a scaled channel, is its ``gamma``.
4. The bias of such a layer is the offset of the normalisation that has this factor, ``gamma /
   sqrt(variance + epsilon)``; else the layer's own bias, with what it was shifted by.

Weights of equal values, such as biases that are all zero, are told apart by the layer's name, and
by the order of the layers; exporters may make one constant of them, which is then both.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.delivery.home.parts import (
    Array,
    Positions,
    View,
    is_learned,
    parts_of,
    views_of,
)
from workers.compression.graph.operators import bias_of, channel_axis, is_layer, operand

_NEAR = 1e-4
"""How far a scaled weight may be off, of its norm: exporters scale in float32."""

_GAMMA = ("weight", "gamma", "scale")
_BETA = ("bias", "beta", "offset")
_MEAN = ("running_mean", "moving_mean")
_VARIANCE = ("running_var", "moving_variance")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Origin:
    """A weight, and where its values stand: constant = weight · factor + shift."""

    weight: str
    constant: str
    there: View
    """How the weight's elements stand in ``here``."""
    here: Positions
    """In the flattened constant."""
    factor: Floats | None = None
    """Of the shape of ``here``; None is 1."""
    shift: Floats | None = None
    """Of the shape of ``here``; None is 0."""


@dataclass(frozen=True)
class Follower:
    """A weight that is no constant of the graph, with an element for each channel of one."""

    weight: str
    constant: str
    axis: int
    """Of the constant: what counts those channels."""


@dataclass(frozen=True)
class Kernel:
    """The constant of a layer's kernel."""

    constant: str
    axis: int
    """What counts the layer's outputs."""
    size: int


@dataclass
class Origins:
    """What is known of the weights of an upload."""

    found: list[Origin] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    layers: dict[str, Kernel] = field(default_factory=dict)
    """By the name of the layer, which its weights have in common."""


def find(model: ir.Model, weights: Mapping[str, Array]) -> Origins:
    """Find the weights of an upload in its graph.

    Args:
        model: in normal form, before any step.
        weights: of the upload, by name, in the order in which it has them.
    """
    return _Search(model, weights).run()


@dataclass(frozen=True)
class _Norm:
    """A batch normalisation's weights, by what they are."""

    gamma: str | None
    beta: str | None
    mean: str
    variance: str

    @property
    def names(self) -> list[str]:
        return [name for name in (self.gamma, self.beta, self.mean, self.variance) if name]


class _Search:
    def __init__(self, model: ir.Model, weights: Mapping[str, Array]) -> None:
        self._weights = {
            name: array for name, array in weights.items() if array.dtype.kind == "f" and array.size
        }
        self._nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
        self._by_bytes = _by_bytes(self._weights)
        self._norms = list(_norms(self._weights))
        self._taken: set[str] = set()
        self._seen: set[ir.Value] = set()
        self._origins = Origins()

    def run(self) -> Origins:
        """Look at every constant: exact ones of layers first, since they tell whose bias is whose."""
        for node in self._nodes:
            if is_layer(node) and (weight := _constant(node, 1)) is not None:
                self._layer(node, weight)
        for node in self._nodes:
            layer: str | None = None
            for slot in range(len(node.inputs)):
                value = _constant(node, slot)
                if value is not None and value not in self._seen:
                    self._seen.add(value)
                    layer = self._pieces(node, slot, value, layer)
        self._equals()
        for layer, kernel in self._origins.layers.items():
            own = list(self._own(layer, _BETA))
            biases = [name for name in own if self._weights[name].size == kernel.size]
            self._follow(biases, kernel.constant, kernel.axis)
        return self._origins

    def _equals(self) -> None:
        """Let a weight that is left have the constant of a weight of equal values."""
        made = {(origin.weight, origin.there): origin for origin in self._origins.found}
        for equals in self._by_bytes.values():
            known = next((made[each] for each in equals if each in made), None)
            for name, view in equals:
                if known is not None and name not in self._taken:
                    self._take(replace(known, weight=name, there=view))

    def _pieces(self, node: ir.Node, slot: int, value: ir.Value, layer: str | None) -> str | None:
        """Find the weights that a constant consists of; return the layer of the last one.

        A constant of one number, over and over, may be anything: it is a weight only at the place
        of one.
        """
        array = _array(value)
        if not np.ptp(array) and not is_learned(node, slot):
            return layer
        for ways in parts_of(node, slot, array.shape):
            known = [[part for part in way if self._candidates(array, part)] for way in ways]
            best = max(known, key=lambda way: sum(part.size for part in way))
            if not best and array.size > 1:
                self._factor(value)
            for part in best:
                found = self._exact(value, part, layer)
                layer = _layer_of(found.weight) if found is not None else layer
        return layer

    def _layer(self, node: ir.Node, weight: ir.Value) -> None:
        """Find the kernel of a layer, and its bias."""
        if weight in self._seen:
            return
        self._seen.add(weight)
        array = _array(weight)
        whole = np.arange(array.size, dtype=np.int64).reshape(array.shape)
        origin = self._exact(weight, whole, None) or self._scaled(node, weight, whole)
        if origin is None:
            return
        axis = (channel_axis(node) or 0) % array.ndim
        kernel = Kernel(str(weight.name), axis, array.shape[axis])
        self._origins.layers[_layer_of(origin.weight)] = kernel
        bias, factor = _bias(node), None
        if bias is None or bias in self._seen:
            return
        self._seen.add(bias)
        if origin.factor is not None:
            factor = np.moveaxis(origin.factor, axis, 0).reshape(array.shape[axis], -1)[:, 0]
        self._bias(bias, factor, _layer_of(origin.weight))

    def _candidates(self, array: Array, positions: Positions) -> Sequence[tuple[str, View]]:
        part = np.ascontiguousarray(array.reshape(-1)[positions])
        found = self._by_bytes.get(_digest(part), ())
        return found if np.ptp(part) else [each for each in found if each[0] not in self._taken]

    def _exact(self, value: ir.Value, positions: Positions, layer: str | None) -> Origin | None:
        """Take the weight that has the very bytes of a part; of several, the layer's own."""
        candidates = self._candidates(_array(value), positions)
        free = [each for each in candidates if each[0] not in self._taken]
        own = [each for each in free if _layer_of(each[0]) == layer]
        chosen = next(iter(own or free or candidates), None)
        if chosen is None:
            return None
        return self._take(Origin(chosen[0], str(value.name), chosen[1], positions))

    def _take(self, origin: Origin) -> Origin:
        self._taken.add(origin.weight)
        self._origins.found.append(origin)
        return origin

    def _factor(self, value: ir.Value) -> None:
        """Take the gamma of the normalisation whose factor a vector is."""
        array = _array(value)
        factor = array.reshape(-1).astype(np.float64)
        for norm in self._norms:
            if norm.gamma and norm.gamma not in self._taken and self._has_factor(norm, factor):
                gamma = self._weights[norm.gamma].reshape(-1).astype(np.float64)
                each = np.where(gamma != 0, factor / np.where(gamma != 0, gamma, 1), 1)
                positions = np.arange(array.size, dtype=np.int64)
                self._take(Origin(norm.gamma, str(value.name), _as_it_is, positions, each))
                self._follow(norm.names, str(value.name), int(np.argmax(array.shape)))
                return

    def _scaled(self, node: ir.Node, value: ir.Value, positions: Positions) -> Origin | None:
        """Take the weight that a kernel is, but for a factor for each output channel."""
        kernel = _array(value)
        axis = (channel_axis(node) or 0) % kernel.ndim
        for name, array in self._weights.items():
            if array.size != kernel.size or array.ndim < 2 or name in self._taken:
                continue
            for view in views_of(array.ndim):
                turned = view(array).reshape(kernel.shape)
                if _factors(kernel.take([0], axis), turned.take([0], axis), axis) is None:
                    continue
                factor = _factors(kernel, turned, axis)
                if factor is not None:
                    spread = np.broadcast_to(factor, kernel.shape)
                    return self._take(Origin(name, str(value.name), view, positions, spread))
        return None

    def _bias(self, value: ir.Value, factor: Floats | None, layer: str) -> None:
        """Find where the bias of a layer comes from, whose kernel has a factor."""
        array = _array(value)
        positions = np.arange(array.size, dtype=np.int64)
        if factor is None:
            self._exact(value, positions, layer)
            return
        name, bias = str(value.name), array.reshape(-1).astype(np.float64)
        own = next((n for n in self._own(layer, _BETA) if self._weights[n].size == bias.size), None)
        before = 0.0 if own is None else self._weights[own].astype(np.float64)
        norm = next((n for n in self._norms if self._explains(n, factor, bias, before)), None)
        if norm is None and own is not None:
            shift = bias - before * factor
            self._take(Origin(own, name, _as_it_is, positions, factor, shift))
            self._follow(list(self._scales(factor)), name, 0)
            return
        if norm is None:
            return
        if norm.beta is not None:
            shift = bias - self._weights[norm.beta]
            home = Origin(norm.beta, name, _as_it_is, positions, None, shift)
        else:
            shift = bias + self._weights[norm.mean] * factor
            home = Origin(norm.mean, name, _as_it_is, positions, -factor, shift)
        self._take(home)
        followers = [*norm.names, *([own] if own else [])]
        self._follow([each for each in followers if each != home.weight], name, 0)

    def _follow(self, names: Sequence[str], constant: str, axis: int) -> None:
        for name in names:
            if name not in self._taken:
                self._taken.add(name)
                self._origins.followers.append(Follower(name, constant, axis))

    def _own(self, layer: str, endings: Sequence[str]) -> Iterator[str]:
        for name in self._weights:
            if _layer_of(name) == layer and name[len(layer) :].lstrip("./") in endings:
                yield name

    def _scales(self, factor: Floats) -> Iterator[str]:
        """Yield the vectors that a factor is."""
        for name, array in self._weights.items():
            if array.size == factor.size and np.allclose(array.reshape(-1), factor, rtol=_NEAR):
                yield name

    def _explains(
        self, norm: _Norm, factor: Floats, bias: Floats, before: Floats | float
    ) -> bool:
        """Return whether a factor and a bias are those of a normalisation."""
        if norm.mean in self._taken or not self._has_factor(norm, factor):
            return False
        beta = self._weights[norm.beta].astype(np.float64) if norm.beta else 0.0
        expected = beta + (before - self._weights[norm.mean].astype(np.float64)) * factor
        return bool(np.allclose(bias, expected, rtol=1e-3, atol=_NEAR * (np.abs(bias).max() + 1)))

    def _has_factor(self, norm: _Norm, factor: Floats) -> bool:
        """Return whether a factor is gamma / sqrt(variance + epsilon), with any one epsilon."""
        if self._weights[norm.variance].size != factor.size:
            return False
        get = self._weights
        gamma = get[norm.gamma].astype(np.float64) if norm.gamma else np.ones_like(factor)
        known = gamma != 0
        with np.errstate(all="ignore"):
            epsilon = (gamma / factor) ** 2 - get[norm.variance]
        epsilon = epsilon[known & np.isfinite(epsilon)]
        scale = np.abs(get[norm.variance]).max(initial=0) + 1e-3
        return bool(epsilon.size) and bool(np.ptp(epsilon) <= 10 * _NEAR * scale)


def _factors(kernel: Array, turned: Array, axis: int) -> Floats | None:
    """Return what a weight is multiplied by, for each channel; None where that is not the kernel.

    A channel that is zero throughout has the factor 1: what it becomes is its own.
    """
    rest = tuple(n for n in range(kernel.ndim) if n != axis)
    given, own = kernel.astype(np.float64), turned.astype(np.float64)
    power = (own * own).sum(rest, keepdims=True)
    factor = (own * given).sum(rest, keepdims=True) / np.where(power > 0, power, 1)
    if np.linalg.norm(given - factor * own) > _NEAR * np.linalg.norm(given):
        return None
    return np.where(factor == 0, 1.0, factor)


def _as_it_is(array: Array) -> Array:
    return array


def _by_bytes(weights: Mapping[str, Array]) -> dict[bytes, list[tuple[str, View]]]:
    found: dict[bytes, list[tuple[str, View]]] = {}
    for name, array in weights.items():
        seen = set[bytes]()
        for view in views_of(array.ndim):
            digest = _digest(np.ascontiguousarray(view(array)))
            if digest not in seen:
                seen.add(digest)
                found.setdefault(digest, []).append((name, view))
    return found


def _digest(array: Array) -> bytes:
    """Return a digest of an array's elements, whatever its shape; a negative zero is a zero."""
    return hashlib.sha256((array.reshape(-1).astype(np.float32) + 0.0).tobytes()).digest()


def _norms(weights: Mapping[str, Array]) -> Iterator[_Norm]:
    """Yield the batch normalisations, by the names that frameworks give their weights."""
    for name in weights:
        layer = _layer_of(name)
        if name[len(layer) :].lstrip("./") in _MEAN:
            ends = [_MEAN, _VARIANCE, _GAMMA, _BETA]
            own = [_ending(weights, layer, each) for each in ends]
            if own[1] is not None:
                yield _Norm(own[2], own[3], name, own[1])


def _ending(weights: Mapping[str, Array], layer: str, endings: Sequence[str]) -> str | None:
    names = (f"{layer}{dot}{ending}" for ending in endings for dot in "./")
    return next((name for name in names if name in weights), None)


def _layer_of(weight: str) -> str:
    """Return a weight's name without its last part."""
    return weight[: max(weight.rfind("."), weight.rfind("/"), 0)]


def _constant(node: ir.Node, slot: int) -> ir.Value | None:
    value = operand(node, slot)
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    kind = value.const_value.dtype
    return value if kind == ir.DataType.FLOAT else None


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy()


def _bias(node: ir.Node) -> ir.Value | None:
    """Return a layer's bias: its own, or what is added to a product."""
    bias = bias_of(node)
    if bias is not None:
        return bias if bias.const_value is not None else None
    readers = [reader for reader, _ in node.outputs[0].uses()]
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    return next((v for slot in (0, 1) if (v := _constant(readers[0], slot)) is not None), None)
