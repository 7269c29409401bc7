"""A layer's weight as a product of smaller ones: tensors in, tensors out.

Weights are ``[O, I, *kernel]``, a matrix product's ``[O, I]``. Errors are shares of the squared
norm, of the weight alone or of what it makes of the data that was seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ranks = tuple[int, ...]

_RIDGE = 1e-3
"""Share of white noise in what is taken for a layer's inputs: data is never seen whole."""
_SWEEPS = 40
"""Rounds of alternating least squares."""


@dataclass(frozen=True)
class Factor:
    """One of the layers that take another's place."""

    weight: NDArray[np.float32]
    """``[O, I / groups, *kernel]``."""
    groups: int = 1
    axes: tuple[int, ...] = ()
    """Spatial axes on which it strides, pads and dilates as the layer did."""


@dataclass(frozen=True)
class ChannelMoments:
    """Second moments of what a layer reads and gives, over samples and positions."""

    inputs: Array
    """``[I, I]``, of its input channels, about zero."""
    outputs: Array | None
    """``[O, O]``, of its output channels, about their mean; None where there are too many."""
    mean: Array | None
    """``[O]``, of its outputs before the bias is added; None for a layer that can have no bias:
    then ``outputs`` is about zero."""


@dataclass(frozen=True)
class Slope:
    """How some figure changes with a layer."""

    weight: Array
    """``[O, I, *kernel]``: its gradient."""
    bias: Array
    """``[O]``: the gradient of what is added to the outputs."""


@dataclass(frozen=True)
class Decomposition:
    """All ranks of one way to factorise one weight."""

    name: str
    full: Ranks
    """The ranks at which nothing is lost."""
    error: Callable[[Ranks], float]
    """Lost share of the squared norm, 0 to 1."""
    factors: Callable[[Ranks], list[Factor]]
    shift: Callable[[Ranks], Array | None]
    """What to add to the bias ``[O]`` so that the mean output stays, where that is known."""
    slope: Callable[[Slope], Callable[[Ranks], float]]
    """By how much a figure changes at some ranks, to first order, of which the slope is known."""


def svd(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split into a layer with the whole kernel to ``r`` channels, and one without to ``O``.

    Without data, by the singular values of ``[O, I·kernel]``. With data, by the principal
    components of the outputs, which minimise the mean squared error of the outputs themselves
    (Zhang et al. 2016, "Accelerating Very Deep Convolutional Networks", section 3.1), or, where
    there are fewer inputs than outputs, by the singular values of the weight times the root of
    the inputs' moments, which is the same for a matrix product.
    """
    if len(weight) > weight[0].size:
        return _svd_by_inputs(weight, moments)
    matrix = weight.reshape(len(weight), -1)
    spread = matrix @ matrix.T
    mean: Array | None = None
    if moments is not None and moments.outputs is not None:
        spread = moments.outputs / _trace(moments.outputs) + _RIDGE * spread / _trace(spread)
        mean = moments.mean
    energies, basis = _eigen(spread)

    def factors(ranks: Ranks) -> list[Factor]:
        kept = basis[:, : ranks[0]]
        first = (kept.T @ matrix).reshape(ranks[0], *weight.shape[1:])
        return [Factor(_single(first), axes=_axes(weight)), Factor(_pointwise(kept, weight))]

    def shift(ranks: Ranks) -> Array | None:
        kept = basis[:, : ranks[0]]
        return None if mean is None else mean - kept @ (kept.T @ mean)

    def slope(given: Slope) -> Callable[[Ranks], float]:
        along = given.weight.reshape(matrix.shape) @ matrix.T
        if mean is not None:
            along -= np.outer(given.bias, mean)
        return _without(np.einsum("ok,ok->k", basis, along @ basis))

    full = (len(matrix),)
    return Decomposition("svd", full, lambda r: _tail(energies, r[0]), factors, shift, slope)


def _svd_by_inputs(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    whitened, back = _whiten(weight, moments)
    matrix = whitened.reshape(len(weight), -1)
    energies, basis = _eigen(matrix.T @ matrix)

    def factors(ranks: Ranks) -> list[Factor]:
        kept = basis[:, : ranks[0]]
        first = np.einsum("rj...,ji->ri...", kept.T.reshape(ranks[0], *weight.shape[1:]), back)
        last = _pointwise(matrix @ kept, weight)
        return [Factor(_single(first), axes=_axes(weight)), Factor(last)]

    def slope(given: Slope) -> Callable[[Ranks], float]:
        along = matrix.T @ _whitened(given, back).reshape(matrix.shape)
        return _without(np.einsum("jk,jk->k", basis, along @ basis))

    full = (matrix.shape[1],)
    return Decomposition("svd", full, lambda r: _tail(energies, r[0]), factors, _no_shift, slope)


def tucker2(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split into 1×1 to ``r1`` channels, the kernel from ``r1`` to ``r2``, and 1×1 to ``O``.

    The bases are those of the unfoldings, inputs weighed by their moments (Kim et al. 2016,
    "Compression of Deep CNNs for Fast and Low Power Mobile Applications").
    """
    whitened, back = _whiten(weight, moments)
    _, inside = _eigen(_gram(whitened, 1))
    _, outside = _eigen(_gram(whitened, 0))
    core = np.einsum("oi...,op,iq->pq...", whitened, outside, inside, optimize=True)
    energy = (core**2).sum(axis=tuple(range(2, core.ndim))).cumsum(0).cumsum(1)
    total = max(float(energy[-1, -1]), np.finfo(np.float64).tiny)

    def error(ranks: Ranks) -> float:
        return max(0.0, 1.0 - float(energy[ranks[1] - 1, ranks[0] - 1]) / total)

    def factors(ranks: Ranks) -> list[Factor]:
        first = inside[:, : ranks[0]].T @ back
        return [
            Factor(_pointwise(first, weight)),
            Factor(_single(core[: ranks[1], : ranks[0]]), axes=_axes(weight)),
            Factor(_pointwise(outside[:, : ranks[1]], weight)),
        ]

    def slope(given: Slope) -> Callable[[Ranks], float]:
        along = _whitened(given, back)
        parts = core * np.einsum("oi...,op,iq->pq...", along, outside, inside, optimize=True)
        sums = parts.sum(axis=tuple(range(2, core.ndim))).cumsum(0).cumsum(1)
        return lambda ranks: float(sums[ranks[1] - 1, ranks[0] - 1] - sums[-1, -1])

    full = (weight.shape[1], weight.shape[0])
    return Decomposition("tucker2", full, error, factors, _no_shift, slope)


def spatial_svd(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split a two-dimensional kernel into a vertical and a horizontal one (Jaderberg 2014)."""
    outputs, inputs, height, width = weight.shape
    whitened, back = _whiten(weight, moments)

    def unfolded(kernels: Array) -> Array:
        return kernels.transpose(1, 2, 0, 3).reshape(inputs * height, outputs * width)

    matrix = unfolded(whitened)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    energies = values**2

    def factors(ranks: Ranks) -> list[Factor]:
        (rank,) = ranks
        root = np.sqrt(values[:rank])
        tall = (left[:, :rank] * root).T.reshape(rank, inputs, height)
        tall = np.einsum("rjh,ji->rih", tall, back)
        flat = (right[:rank].T * root).reshape(outputs, width, rank).transpose(0, 2, 1)
        return [
            Factor(_single(tall[..., None]), axes=(0,)),
            Factor(_single(flat[:, :, None, :]), axes=(1,)),
        ]

    def slope(given: Slope) -> Callable[[Ranks], float]:
        along = unfolded(_whitened(given, back))
        return _without(values * np.einsum("rk,kr->r", right, along.T @ left))

    full = (min(matrix.shape),)
    return Decomposition(
        "spatial_svd", full, lambda r: _tail(energies, r[0]), factors, _no_shift, slope
    )


def cp(weight: Array, moments: ChannelMoments | None) -> Decomposition:
    """Split into 1×1, one depthwise kernel for each spatial axis, and 1×1 (Lebedev 2015).

    By alternating least squares from the leading singular vectors; each rank is fitted anew.
    """
    whitened, back = _whiten(weight, moments)
    total = max(float((whitened**2).sum()), np.finfo(np.float64).tiny)
    fitted: dict[int, list[Array]] = {}

    def fit(rank: int) -> list[Array]:
        if rank not in fitted:
            fitted[rank] = _alternate(whitened, rank)
        return fitted[rank]

    def error(ranks: Ranks) -> float:
        difference = whitened - _outer(fit(ranks[0]))
        return min(1.0, float((difference**2).sum()) / total)

    def factors(ranks: Ranks) -> list[Factor]:
        outside, inside, *kernels = fit(ranks[0])
        found = [Factor(_pointwise((inside.T @ back), weight))]
        for axis, kernel in enumerate(kernels):
            shape = [1] * len(kernels)
            shape[axis] = kernel.shape[0]
            depthwise = _single(kernel.T.reshape(ranks[0], 1, *shape))
            found.append(Factor(depthwise, groups=ranks[0], axes=(axis,)))
        return [*found, Factor(_pointwise(outside, weight))]

    def slope(given: Slope) -> Callable[[Ranks], float]:
        along = _whitened(given, back)
        return lambda ranks: float((along * (_outer(fit(ranks[0])) - whitened)).sum())

    full = (min(weight.shape[:2]),)
    return Decomposition("cp", full, error, factors, _no_shift, slope)


def _whiten(weight: Array, moments: ChannelMoments | None) -> tuple[Array, Array]:
    """Return the weight times the root of its inputs' moments, and the inverse root ``[I, I]``."""
    inputs = weight.shape[1]
    if moments is None:
        return weight, np.eye(inputs)
    second = moments.inputs / _trace(moments.inputs) * inputs
    energies, basis = _eigen(second + _RIDGE * np.eye(inputs))
    root = (basis * np.sqrt(energies)) @ basis.T
    return np.einsum("oi...,ij->oj...", weight, root), (basis / np.sqrt(energies)) @ basis.T


def _whitened(slope: Slope, back: Array) -> Array:
    """Return the gradient with respect to the whitened weight."""
    along: Array = np.einsum("oi...,ji->oj...", slope.weight, back, optimize=True)
    return along


def _alternate(tensor: Array, rank: int) -> list[Array]:
    """Return one factor ``[size, rank]`` for each axis of a tensor."""
    factors = [_leading(tensor, axis, rank) for axis in range(tensor.ndim)]
    for _ in range(_SWEEPS):
        for axis in range(tensor.ndim):
            others = [factor for other, factor in enumerate(factors) if other != axis]
            gram = np.ones((rank, rank))
            for factor in others:
                gram *= factor.T @ factor
            known = _khatri_rao(others)
            right = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1) @ known
            jitter = 1e-9 * max(float(np.trace(gram)), 1e-12) * np.eye(rank)
            factors[axis] = np.linalg.solve(gram + jitter, right.T).T.astype(np.float64)
    return _balanced(factors)


def _leading(tensor: Array, axis: int, rank: int) -> Array:
    """Return leading left singular vectors of an unfolding, filled up with fixed noise."""
    _, basis = _eigen(_gram(tensor, axis))
    start = basis[:, :rank]
    missing = rank - start.shape[1]
    noise = np.random.default_rng(0).standard_normal((tensor.shape[axis], max(missing, 0)))
    return np.concatenate([start, noise / np.sqrt(tensor.shape[axis])], axis=1)


def _balanced(factors: list[Array]) -> list[Array]:
    """Give the factors of each component the same norm: none over- or underflows."""
    norms = [np.maximum(np.linalg.norm(factor, axis=0), 1e-30) for factor in factors]
    mean = np.exp(np.mean([np.log(norm) for norm in norms], axis=0))
    return [factor / norm * mean for factor, norm in zip(factors, norms, strict=True)]


def _khatri_rao(factors: list[Array]) -> Array:
    product = factors[0]
    for factor in factors[1:]:
        product = (product[:, None] * factor[None]).reshape(-1, product.shape[1])
    return product


def _outer(factors: list[Array]) -> Array:
    return (factors[0] @ _khatri_rao(factors[1:]).T).reshape([len(f) for f in factors])


def _gram(tensor: Array, axis: int) -> Array:
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    product: Array = unfolded @ unfolded.T
    return product


def _eigen(symmetric: Array) -> tuple[Array, Array]:
    """Return eigenvalues, largest first and none negative, and their vectors in columns."""
    values, vectors = np.linalg.eigh(symmetric)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def _tail(energies: Array, rank: int) -> float:
    return float(energies[rank:].sum() / max(energies.sum(), np.finfo(np.float64).tiny))


def _without(parts: Array) -> Callable[[Ranks], float]:
    """Return by how much a sum falls without the parts beyond a rank."""
    return lambda ranks: -float(parts[ranks[0] :].sum())


def _trace(matrix: Array) -> float:
    return max(float(np.trace(matrix)), float(np.finfo(np.float64).tiny))


def _axes(weight: Array) -> tuple[int, ...]:
    return tuple(range(weight.ndim - 2))


def _pointwise(matrix: Array, weight: Array) -> NDArray[np.float32]:
    """Give ``[O, I]`` as many axes as a layer's weight has."""
    return _single(matrix.reshape(*matrix.shape, *[1] * (weight.ndim - 2)))


def _single(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)


def _no_shift(_ranks: Ranks) -> Array | None:
    return None
