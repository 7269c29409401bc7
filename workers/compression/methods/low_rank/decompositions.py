"""Decompositions of a layer's weight into a chain of smaller ones: tensors in, tensors out.

Weights are ``[O, I, *kernel]``, or ``[O, I]`` for a matrix product. Errors are shares of a squared
norm: that of the layer's output on the calibration data, or that of the weight without data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.methods.low_rank.algebra import (
    Array,
    eigen,
    fit_cp,
    gram,
    outer,
    tail,
    trace,
)

Ranks = tuple[int, ...]

_RIDGE = 1e-3
"""The share of white noise that is added to the moments of a layer's inputs, as data that was not
seen differs."""


@dataclass(frozen=True)
class Factor:
    """One of the layers in the chain that replaces a layer."""

    weight: NDArray[np.float32]
    """``[O, I / groups, *kernel]``."""
    groups: int = 1
    axes: tuple[int, ...] = ()
    """The spatial axes on which the factor has the strides, pads and dilations of the layer."""


@dataclass(frozen=True)
class ChannelMoments:
    """Second moments of a layer's inputs and outputs, over samples and positions."""

    inputs: Array
    """``[I, I]``: the moments of the input channels, about zero."""
    outputs: Array | None
    """``[O, O]``: the moments of the output channels, about their mean; None where there are too
    many channels."""
    mean: Array | None
    """``[O]``: the mean output before the bias is added. None for a layer that cannot have a bias;
    ``outputs`` is about zero then."""


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of a scalar with respect to a layer's weight and bias."""

    weight: Array
    """``[O, I, *kernel]``: the gradient of the weight."""
    bias: Array
    """``[O]``: the gradient of the bias."""


@dataclass(frozen=True)
class Decomposition:
    """A decomposition of one weight, as functions of its ranks."""

    name: str
    full: Ranks
    """The ranks at which nothing is lost."""
    error: Callable[[Ranks], float]
    """The lost share of the squared norm, 0 to 1."""
    factors: Callable[[Ranks], list[Factor]]
    """The layers of the chain."""
    shift: Callable[[Ranks], Array | None]
    """The correction of the bias ``[O]`` that keeps the mean output; None without data."""
    first_order: Callable[[LayerGradient], Callable[[Ranks], float]]
    """From the gradient of a scalar, the first-order change of that scalar at given ranks."""


def svd(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split into a layer with the kernel to ``r`` channels, and a 1×1 from ``r`` to ``O``.

    Without data, the basis is the singular vectors of ``[O, I·kernel]``. With data, it is the
    principal components of the outputs, which minimise the mean squared error of the outputs
    (Zhang et al. 2016, "Accelerating Very Deep Convolutional Networks", section 3.1). Where there
    are fewer inputs than outputs, it is the singular vectors of the weight times the root of the
    inputs' moments, which is equivalent for a matrix product.
    """
    if len(weight) > weight[0].size:
        return _svd_by_inputs(weight, moments)
    matrix = weight.reshape(len(weight), -1)
    covariance = matrix @ matrix.T
    mean: Array | None = None
    if moments is not None and moments.outputs is not None:
        covariance = moments.outputs / trace(moments.outputs) + _RIDGE * covariance / trace(
            covariance
        )
        mean = moments.mean
    energies, basis = eigen(covariance)

    def factors(ranks: Ranks) -> list[Factor]:
        components = basis[:, : ranks[0]]
        first = (components.T @ matrix).reshape(ranks[0], *weight.shape[1:])
        return [Factor(_single(first), axes=_axes(weight)), Factor(_pointwise(components, weight))]

    def shift(ranks: Ranks) -> Array | None:
        components = basis[:, : ranks[0]]
        return None if mean is None else mean - components @ (components.T @ mean)

    def first_order(gradient: LayerGradient) -> Callable[[Ranks], float]:
        projected = gradient.weight.reshape(matrix.shape) @ matrix.T
        if mean is not None:
            projected -= np.outer(gradient.bias, mean)
        return _without(np.einsum("ok,ok->k", basis, projected @ basis))

    full = (len(matrix),)
    return Decomposition("svd", full, lambda r: tail(energies, r[0]), factors, shift, first_order)


def _svd_by_inputs(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    whitened, inverse_root = _whiten(weight, moments)
    matrix = whitened.reshape(len(weight), -1)
    energies, basis = eigen(matrix.T @ matrix)

    def factors(ranks: Ranks) -> list[Factor]:
        components = basis[:, : ranks[0]]
        first = np.einsum(
            "rj...,ji->ri...", components.T.reshape(ranks[0], *weight.shape[1:]), inverse_root
        )
        last = _pointwise(matrix @ components, weight)
        return [Factor(_single(first), axes=_axes(weight)), Factor(last)]

    def first_order(gradient: LayerGradient) -> Callable[[Ranks], float]:
        projected = matrix.T @ _whitened_gradient(gradient, inverse_root).reshape(matrix.shape)
        return _without(np.einsum("jk,jk->k", basis, projected @ basis))

    full = (matrix.shape[1],)
    return Decomposition(
        "svd", full, lambda r: tail(energies, r[0]), factors, _no_shift, first_order
    )


def tucker2(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split into a 1×1 to ``r1`` channels, the kernel from ``r1`` to ``r2``, and a 1×1 to ``O``.

    The bases are the singular vectors of the weight's unfoldings, after the inputs are whitened
    (Kim et al. 2016, "Compression of Deep CNNs for Fast and Low Power Mobile Applications").
    """
    whitened, inverse_root = _whiten(weight, moments)
    _, inside = eigen(gram(whitened, 1))
    _, outside = eigen(gram(whitened, 0))
    core = np.einsum("oi...,op,iq->pq...", whitened, outside, inside, optimize=True)
    energy = (core**2).sum(axis=tuple(range(2, core.ndim))).cumsum(0).cumsum(1)
    total = max(float(energy[-1, -1]), np.finfo(np.float64).tiny)

    def error(ranks: Ranks) -> float:
        return max(0.0, 1.0 - float(energy[ranks[1] - 1, ranks[0] - 1]) / total)

    def factors(ranks: Ranks) -> list[Factor]:
        first = inside[:, : ranks[0]].T @ inverse_root
        return [
            Factor(_pointwise(first, weight)),
            Factor(_single(core[: ranks[1], : ranks[0]]), axes=_axes(weight)),
            Factor(_pointwise(outside[:, : ranks[1]], weight)),
        ]

    def first_order(gradient: LayerGradient) -> Callable[[Ranks], float]:
        whitened_gradient = _whitened_gradient(gradient, inverse_root)
        parts = core * np.einsum(
            "oi...,op,iq->pq...", whitened_gradient, outside, inside, optimize=True
        )
        sums = parts.sum(axis=tuple(range(2, core.ndim))).cumsum(0).cumsum(1)
        return lambda ranks: float(sums[ranks[1] - 1, ranks[0] - 1] - sums[-1, -1])

    full = (weight.shape[1], weight.shape[0])
    return Decomposition("tucker2", full, error, factors, _no_shift, first_order)


def spatial_svd(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split a two-dimensional kernel into a vertical and a horizontal one (Jaderberg 2014)."""
    outputs, inputs, height, width = weight.shape
    whitened, inverse_root = _whiten(weight, moments)

    def unfolded(kernels: Array) -> Array:
        return kernels.transpose(1, 2, 0, 3).reshape(inputs * height, outputs * width)

    matrix = unfolded(whitened)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    energies = values**2

    def factors(ranks: Ranks) -> list[Factor]:
        (rank,) = ranks
        root = np.sqrt(values[:rank])
        tall = (left[:, :rank] * root).T.reshape(rank, inputs, height)
        tall = np.einsum("rjh,ji->rih", tall, inverse_root)
        flat = (right[:rank].T * root).reshape(outputs, width, rank).transpose(0, 2, 1)
        return [
            Factor(_single(tall[..., None]), axes=(0,)),
            Factor(_single(flat[:, :, None, :]), axes=(1,)),
        ]

    def first_order(gradient: LayerGradient) -> Callable[[Ranks], float]:
        gradient_matrix = unfolded(_whitened_gradient(gradient, inverse_root))
        return _without(values * np.einsum("rk,kr->r", right, gradient_matrix.T @ left))

    full = (min(matrix.shape),)
    return Decomposition(
        "spatial_svd", full, lambda r: tail(energies, r[0]), factors, _no_shift, first_order
    )


def cp(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split into a 1×1, a depthwise kernel for each spatial axis, and a 1×1 (Lebedev 2015).

    The factors are found by alternating least squares, starting from the leading singular vectors.
    Each rank is fitted by itself.
    """
    whitened, inverse_root = _whiten(weight, moments)
    total = max(float((whitened**2).sum()), np.finfo(np.float64).tiny)
    fitted: dict[int, list[Array]] = {}

    def fit(rank: int) -> list[Array]:
        if rank not in fitted:
            fitted[rank] = fit_cp(whitened, rank)
        return fitted[rank]

    def error(ranks: Ranks) -> float:
        difference = whitened - outer(fit(ranks[0]))
        return min(1.0, float((difference**2).sum()) / total)

    def factors(ranks: Ranks) -> list[Factor]:
        outside, inside, *kernels = fit(ranks[0])
        factors_found = [Factor(_pointwise((inside.T @ inverse_root), weight))]
        for axis, kernel in enumerate(kernels):
            shape = [1] * len(kernels)
            shape[axis] = kernel.shape[0]
            depthwise = _single(kernel.T.reshape(ranks[0], 1, *shape))
            factors_found.append(Factor(depthwise, groups=ranks[0], axes=(axis,)))
        return [*factors_found, Factor(_pointwise(outside, weight))]

    def first_order(gradient: LayerGradient) -> Callable[[Ranks], float]:
        whitened_gradient = _whitened_gradient(gradient, inverse_root)
        return lambda ranks: float((whitened_gradient * (outer(fit(ranks[0])) - whitened)).sum())

    full = (min(weight.shape[:2]),)
    return Decomposition("cp", full, error, factors, _no_shift, first_order)


def _whiten(weight: Array, moments: ChannelMoments | None) -> tuple[Array, Array]:
    """Return the weight times the root of the inputs' moments, and the inverse root ``[I, I]``."""
    inputs = weight.shape[1]
    if moments is None:
        return weight, np.eye(inputs)
    second = moments.inputs / trace(moments.inputs) * inputs
    energies, basis = eigen(second + _RIDGE * np.eye(inputs))
    root = (basis * np.sqrt(energies)) @ basis.T
    return np.einsum("oi...,ij->oj...", weight, root), (basis / np.sqrt(energies)) @ basis.T


def _whitened_gradient(gradient: LayerGradient, inverse_root: Array) -> Array:
    """Return the gradient with respect to the whitened weight."""
    whitened: Array = np.einsum("oi...,ji->oj...", gradient.weight, inverse_root, optimize=True)
    return whitened


def _without(parts: Array) -> Callable[[Ranks], float]:
    """Return the change of a sum when its parts beyond a rank are dropped."""
    return lambda ranks: -float(parts[ranks[0] :].sum())


def _axes(weight: Array) -> tuple[int, ...]:
    return tuple(range(weight.ndim - 2))


def _pointwise(matrix: Array, weight: Array) -> NDArray[np.float32]:
    """Reshape ``[O, I]`` to a 1×1 kernel with as many axes as the layer's weight."""
    return _single(matrix.reshape(*matrix.shape, *[1] * (weight.ndim - 2)))


def _single(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)


def _no_shift(_ranks: Ranks) -> Array | None:
    return None
