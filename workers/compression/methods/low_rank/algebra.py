"""Linear algebra of decompositions: spectra, unfoldings, alternating least squares."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SWEEPS = 40
"""Rounds of alternating least squares."""


def fit_cp(tensor: Array, rank: int) -> list[Array]:
    """Return a factor ``[size, rank]`` for each axis: their outer products sum up to the tensor.

    CP by alternating least squares (Carroll and Chang 1970; Kolda and Bader 2009, section 3.4).
    """
    factors = [_leading(tensor, axis, rank) for axis in range(tensor.ndim)]
    for _ in range(_SWEEPS):
        for axis in range(tensor.ndim):
            other_factors = [factor for index, factor in enumerate(factors) if index != axis]
            products = np.ones((rank, rank))
            for factor in other_factors:
                products *= factor.T @ factor
            khatri_rao = _khatri_rao(other_factors)
            right = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1) @ khatri_rao
            jitter = 1e-9 * max(float(np.trace(products)), 1e-12) * np.eye(rank)
            factors[axis] = np.linalg.solve(products + jitter, right.T).T.astype(np.float64)
    return _balanced(factors)


def _leading(tensor: Array, axis: int, rank: int) -> Array:
    """Return the leading left singular vectors of an unfolding, padded with seeded noise."""
    _, basis = eigen(gram(tensor, axis))
    start = basis[:, :rank]
    missing = rank - start.shape[1]
    noise = np.random.default_rng(0).standard_normal((tensor.shape[axis], max(missing, 0)))
    return np.concatenate([start, noise / np.sqrt(tensor.shape[axis])], axis=1)


def _balanced(factors: list[Array]) -> list[Array]:
    """Give the factors of each component the same norm, so that no factor over- or underflows."""
    norms = [np.maximum(np.linalg.norm(factor, axis=0), 1e-30) for factor in factors]
    mean = np.exp(np.mean([np.log(norm) for norm in norms], axis=0))
    return [factor / norm * mean for factor, norm in zip(factors, norms, strict=True)]


def _khatri_rao(factors: list[Array]) -> Array:
    product = factors[0]
    for factor in factors[1:]:
        product = (product[:, None] * factor[None]).reshape(-1, product.shape[1])
    return product


def outer(factors: list[Array]) -> Array:
    """Return the tensor that CP's factors stand for: the sum of their outer products."""
    return (factors[0] @ _khatri_rao(factors[1:]).T).reshape([len(f) for f in factors])


def gram(tensor: Array, axis: int) -> Array:
    """Return the products of a tensor's slices along an axis with one another, ``[size, size]``."""
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    product: Array = unfolded @ unfolded.T
    return product


def eigen(symmetric: Array) -> tuple[Array, Array]:
    """Return the eigenvalues, in descending order and clipped at zero, and the eigenvectors."""
    values, vectors = np.linalg.eigh(symmetric)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def tail(energies: Array, rank: int) -> float:
    """Return the share of the energies beyond a rank."""
    return float(energies[rank:].sum() / max(energies.sum(), np.finfo(np.float64).tiny))


def trace(matrix: Array) -> float:
    """Return the trace of a positive matrix, and never zero."""
    return max(float(np.trace(matrix)), float(np.finfo(np.float64).tiny))
