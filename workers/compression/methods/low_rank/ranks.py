"""How many components are enough: by energy, by Bayes, or by what a budget leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60
_GOLDEN = (np.sqrt(5.0) - 1) / 2


@dataclass(frozen=True)
class Option:
    """One way to have a layer."""

    cost: float
    """In the budget's unit."""
    error: float
    """What it loses; options of all layers add up."""


def spread(options: Sequence[Sequence[Option]], budget: float) -> list[int] | None:
    """Choose an option for each layer, so that errors are least within a budget.

    Lagrangian relaxation: at a price for cost each layer takes its own best, and the lowest
    price that meets the budget is found. What is left goes to the layers that lose most.

    Args:
        options: of each layer.
        budget: that the chosen costs may add up to.

    Returns:
        The index of each layer's option; None where even the cheapest ones cost more.
    """
    if sum(min(option.cost for option in each) for each in options) > budget:
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
    prices = [[option.error + price * option.cost for option in each] for each in options]
    return [each.index(min(each)) for each in prices]


def _cost(options: Sequence[Sequence[Option]], chosen: Sequence[int]) -> float:
    return sum(each[i].cost for each, i in zip(options, chosen, strict=True))


def _refill(options: Sequence[Sequence[Option]], chosen: list[int], budget: float) -> list[int]:
    """Spend what is left of the budget where it saves the most error."""
    left = budget - _cost(options, chosen)
    while True:
        best, saved = None, 0.0
        for layer, each in enumerate(options):
            now = each[chosen[layer]]
            for index, other in enumerate(each):
                if other.cost - now.cost <= left and now.error - other.error > saved:
                    best, saved = (layer, index), now.error - other.error
        if best is None:
            return chosen
        layer, index = best
        left -= options[layer][index].cost - options[layer][chosen[layer]].cost
        chosen[layer] = index


def by_bayes(matrix: NDArray[np.float64]) -> int:
    """Return the rank that a matrix has beneath its noise; at least 1.

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
    most = min(max(int(np.ceil(rows / (1 + ratio))) - 1, 0), rows - 1)
    rest = values[most:] ** 2
    lowest = max(rest[0] / bound, rest.mean(), 1e-12 * energy) / columns
    noise = _least(
        lambda v: _free_energy(v, values, rows, columns, bound),
        lowest,
        max(energy / (rows * columns), lowest * 1.001),
    )
    return max(int((values > np.sqrt(columns * noise * bound)).sum()), 1)


def _free_energy(
    noise: float, values: NDArray[np.float64], rows: int, columns: int, bound: float
) -> float:
    """Return what the noise's variance minimises (equation 24)."""
    ratio = rows / columns
    scaled = values**2 / (columns * noise)
    above, below = scaled[scaled > bound], scaled[scaled <= bound]
    inner = above - (1 + ratio)
    tau = (inner + np.sqrt(np.maximum(inner**2 - 4 * ratio, 0))) / 2
    return float(
        np.sum(below - np.log(np.maximum(below, 1e-300)))
        + np.sum(above - tau)
        + np.sum(np.log((tau + 1) / above))
        + ratio * np.sum(np.log(tau / ratio + 1))
    )


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function of one positive number is least: a grid, then golden sections."""
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
