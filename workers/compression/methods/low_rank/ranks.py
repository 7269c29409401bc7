"""Chooses ranks: by variational Bayes for one matrix, or within a budget for all layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60
_GOLDEN = (np.sqrt(5.0) - 1) / 2


@dataclass(frozen=True)
class Option:
    """A choice for one layer, such as a decomposition at certain ranks."""

    cost: float
    """The cost in the budget's unit."""
    error: float
    """The error of the choice; the errors of all layers are added up."""


def distribute(options: Sequence[Sequence[Option]], budget: float) -> list[int] | None:
    """Choose an option for each layer, so that the sum of errors is least within a budget.

    Lagrangian relaxation: at a price for a unit of cost, each layer takes the option with the
    lowest sum of error and price. A bisection finds the lowest price that meets the budget. The
    rest of the budget is spent on the layers where it saves the most error.

    Args:
        options: the options of each layer.
        budget: the greatest sum of the costs.

    Returns:
        The index of each layer's option; None if even the cheapest options exceed the budget.
    """
    if sum(min(option.cost for option in layer_options) for layer_options in options) > budget:
        return None
    low, high = 0.0, 1.0
    while _cost(options, _cheapest(options, high)) > budget:
        high *= 4
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _cost(options, _cheapest(options, middle)) > budget:
            low = middle
        else:
            high = middle
    return _refill(options, _cheapest(options, high), budget)


def _cheapest(options: Sequence[Sequence[Option]], price: float) -> list[int]:
    prices = [
        [option.error + price * option.cost for option in layer_options]
        for layer_options in options
    ]
    return [layer_options.index(min(layer_options)) for layer_options in prices]


def _cost(options: Sequence[Sequence[Option]], chosen: Sequence[int]) -> float:
    return sum(layer_options[i].cost for layer_options, i in zip(options, chosen, strict=True))


def _refill(options: Sequence[Sequence[Option]], chosen: list[int], budget: float) -> list[int]:
    """Spend the rest of the budget where it saves the most error."""
    remaining = budget - _cost(options, chosen)
    while True:
        best, gain = None, 0.0
        for layer, layer_options in enumerate(options):
            current = layer_options[chosen[layer]]
            for index, option in enumerate(layer_options):
                if option.cost - current.cost <= remaining and current.error - option.error > gain:
                    best, gain = (layer, index), current.error - option.error
        if best is None:
            return chosen
        layer, index = best
        remaining -= options[layer][index].cost - options[layer][chosen[layer]].cost
        chosen[layer] = index


def by_bayes(matrix: NDArray[np.float64]) -> int:
    """Return the rank of a matrix without its noise, at least 1.

    The analytic solution of empirical variational Bayesian matrix factorisation with unknown noise
    (Nakajima et al. 2013, "Global Analytic Solution of Fully-observed Variational Bayesian Matrix
    Factorization", theorem 2 and section 3.3).
    """
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    rows, columns = matrix.shape
    values = np.linalg.svd(matrix, compute_uv=False).astype(np.float64)
    ratio = rows / columns
    edge = 2.5129 * np.sqrt(ratio)
    bound = (1 + edge) * (1 + ratio / edge)
    energy = float((values**2).sum())
    if energy == 0.0:
        return 1
    largest_rank = min(max(int(np.ceil(rows / (1 + ratio))) - 1, 0), rows - 1)
    noise_values = values[largest_rank:] ** 2
    lowest = max(noise_values[0] / bound, noise_values.mean(), 1e-12 * energy) / columns
    noise = _least(
        lambda v: _free_energy(v, values, rows, columns, bound),
        lowest,
        max(energy / (rows * columns), lowest * 1.001),
    )
    return max(int((values > np.sqrt(columns * noise * bound)).sum()), 1)


def _free_energy(
    noise: float, values: NDArray[np.float64], rows: int, columns: int, bound: float
) -> float:
    """Return the free energy of a noise variance; the best variance minimises it (equation 24)."""
    ratio = rows / columns
    scaled = values**2 / (columns * noise)
    above, below = scaled[scaled > bound], scaled[scaled <= bound]
    shifted = above - (1 + ratio)
    tau = (shifted + np.sqrt(np.maximum(shifted**2 - 4 * ratio, 0))) / 2
    return float(
        np.sum(below - np.log(np.maximum(below, 1e-300)))
        + np.sum(above - tau)
        + np.sum(np.log((tau + 1) / above))
        + ratio * np.sum(np.log(tau / ratio + 1))
    )


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the positive number that minimises a function: a grid, then golden-section search."""
    grid = np.geomspace(low, high, 64)
    best = int(np.argmin([function(float(x)) for x in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    for _ in range(40):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if function(left) < function(right):
            high = right
        else:
            low = left
    return (low + high) / 2
