"""Factors by which exporters scale weights, and the normalisations that explain them.

A batch normalisation behind a layer multiplies each channel by ``gamma / sqrt(variance + epsilon)``
and shifts it by ``beta - mean · factor``. Exporters fold both into the layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.compression.delivery.home.parts import Array

Floats = NDArray[np.float64]
Weights = Mapping[str, Array]

TOLERANCE = 1e-4
"""The greatest relative difference of a scaled weight: exporters scale in float32."""

BETA = ("bias", "beta", "offset")
_GAMMA = ("weight", "gamma", "scale")
_MEAN = ("running_mean", "moving_mean")
_VARIANCE = ("running_var", "moving_variance")


@dataclass(frozen=True)
class Norm:
    """The names of a batch normalisation's weights; gamma and beta may be missing."""

    mean: str
    variance: str
    gamma: str | None
    beta: str | None

    @property
    def names(self) -> list[str]:
        """The names of all its weights."""
        names = (self.gamma, self.beta, self.mean, self.variance)
        return [name for name in names if name is not None]

    def whole_factor(self, weights: Weights, factor: Floats) -> Floats | None:
        """Return a factor with the channels that it does not tell, which are not numbers in it.

        None is returned where it is not gamma / sqrt(variance + epsilon), whatever epsilon is.
        """
        variance = weights[self.variance].reshape(-1).astype(np.float64)
        if variance.size != factor.size:
            return None
        gamma = weights[self.gamma].reshape(-1) if self.gamma else np.ones_like(factor)
        gamma = gamma.astype(np.float64)
        with np.errstate(all="ignore"):
            epsilon = (gamma / factor) ** 2 - variance
        epsilon = epsilon[(gamma != 0) & np.isfinite(epsilon)]
        bound = 10 * TOLERANCE * (np.abs(variance).max(initial=0) + 1e-3)
        if not epsilon.size or np.ptp(epsilon) > bound:
            return None
        told = gamma / np.sqrt(np.maximum(variance + np.median(epsilon), np.finfo(float).tiny))
        return np.where(np.isnan(factor), told, factor)

    def explained(
        self, weights: Weights, factor: Floats, bias: Floats, unscaled: Floats | float
    ) -> Floats | None:
        """Return the whole factor of a layer that has this normalisation's factor and bias.

        None is returned of another layer.

        Args:
            weights: of the upload.
            factor: of the layer, for each channel; not a number where the kernel is zero.
            bias: of the layer in the graph.
            unscaled: the bias that the layer has in the upload.
        """
        whole = self.whole_factor(weights, factor)
        if whole is None:
            return None
        beta = weights[self.beta].astype(np.float64) if self.beta else 0.0
        expected = beta + (unscaled - weights[self.mean].astype(np.float64)) * whole
        bound = TOLERANCE * (np.abs(bias).max() + 1)
        return whole if np.allclose(bias, expected, rtol=1e-3, atol=bound) else None


def norms_of(weights: Weights) -> Iterator[Norm]:
    """Yield the batch normalisations, by the names that frameworks give their weights."""
    for name in weights:
        layer = layer_of(name)
        if ending_of(name) not in _MEAN:
            continue
        variance, gamma, beta = (_named(weights, layer, kind) for kind in (_VARIANCE, _GAMMA, BETA))
        if variance is not None:
            yield Norm(name, variance, gamma, beta)


def _named(weights: Weights, layer: str, endings: Sequence[str]) -> str | None:
    names = (f"{layer}{separator}{ending}" for ending in endings for separator in "./")
    return next((name for name in names if name in weights), None)


def layer_of(weight: str) -> str:
    """Return the name of a weight's layer: its name without the last part."""
    return weight[: max(weight.rfind("."), weight.rfind("/"), 0)]


def ending_of(weight: str) -> str:
    """Return the last part of a weight's name."""
    return weight[len(layer_of(weight)) :].lstrip("./")


def factors(kernel: Array, weight: Array, axis: int) -> Floats | None:
    """Return the factor of each channel by which a kernel is a weight; None if it is not.

    A channel of zeros has the factor 1.

    Args:
        kernel: a constant of the graph.
        weight: of the same shape.
        axis: the axis that counts channels.

    Returns:
        An array that broadcasts to the kernel.
    """
    other_axes = tuple(n for n in range(kernel.ndim) if n != axis)
    scaled, plain = kernel.astype(np.float64), weight.astype(np.float64)
    power = (plain * plain).sum(other_axes, keepdims=True)
    factor = (plain * scaled).sum(other_axes, keepdims=True) / np.where(power > 0, power, 1)
    if np.linalg.norm(scaled - factor * plain) > TOLERANCE * np.linalg.norm(scaled):
        return None
    return np.where(factor == 0, 1.0, factor)
