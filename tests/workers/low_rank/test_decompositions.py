"""Factors are the weight at full rank, and lose what they promise below it; ranks are spread."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from workers.compression.methods.low_rank import decompositions, ranks
from workers.compression.methods.low_rank.algebra import Array
from workers.compression.methods.low_rank.decompositions import (
    ChannelMoments,
    Decomposition,
    LayerGradient,
)
from workers.compression.methods.low_rank.ranks import Option

EXACT = (decompositions.svd, decompositions.tucker2, decompositions.spatial_svd)
RNG = np.random.default_rng(7)


def _rebuilt(way: Decomposition, at: tuple[int, ...]) -> Array:
    """Multiply the factors of a 3x3 kernel out again, ``[O, I, 3, 3]``."""
    weights = [factor.weight.astype(np.float64) for factor in way.factors(at)]
    formula = {
        "svd": "rihw,or..->oihw",
        "tucker2": "ri..,prhw,op..->oihw",
        "spatial_svd": "rih.,or.w->oihw",
        "cp": "ri..,r.h.,r..w,or..->oihw",
    }[way.name]
    squeezed = [
        weight.reshape([n for n, letter in zip(weight.shape, term, strict=True) if letter != "."])
        for weight, term in zip(weights, formula.split("->")[0].split(","), strict=True)
    ]
    rebuilt: Array = np.einsum(formula.replace(".", ""), *squeezed)
    return rebuilt


@pytest.mark.parametrize("decompose", EXACT)
@pytest.mark.parametrize("shape", [(12, 8, 3, 3), (8, 80, 3, 3), (90, 8, 3, 3)])
def test_at_full_rank_the_factors_multiply_to_the_weight(
    decompose: Callable[[Array, ChannelMoments | None], Decomposition], shape: tuple[int, ...]
) -> None:
    weight = RNG.standard_normal(shape)
    way = decompose(weight, None)
    assert way.error(way.full) < 1e-12
    np.testing.assert_allclose(_rebuilt(way, way.full), weight, atol=1e-5)


@pytest.mark.parametrize("decompose", [*EXACT, decompositions.cp])
def test_the_error_that_is_promised_is_the_error_that_is_made(
    decompose: Callable[[Array, ChannelMoments | None], Decomposition],
) -> None:
    weight = RNG.standard_normal((12, 10, 3, 3))
    way = decompose(weight, None)
    at = tuple(max(1, size // 2) for size in way.full)
    lost = ((_rebuilt(way, at) - weight) ** 2).sum() / (weight**2).sum()
    assert way.error(at) == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize("decompose", [*EXACT, decompositions.cp])
@pytest.mark.parametrize("shape", [(12, 10, 3, 3), (40, 4, 3, 3)])
@pytest.mark.parametrize("data", [True, False])
def test_the_gradient_of_a_scalar_tells_how_replacing_changes_it(
    decompose: Callable[[Array, ChannelMoments | None], Decomposition],
    shape: tuple[int, ...],
    data: bool,
) -> None:
    weight, gradient = RNG.standard_normal((2, *shape))
    added = RNG.standard_normal(shape[0])
    seen = [np.cov(RNG.standard_normal((size, 200))) for size in shape[:2]]
    moments = ChannelMoments(seen[1], seen[0], RNG.standard_normal(shape[0])) if data else None
    way = decompose(weight, moments)
    change = way.first_order(LayerGradient(gradient, added))
    for at in (tuple(max(1, size // 2) for size in way.full), (1,) * len(way.full)):
        shift = way.shift(at)
        wanted = ((_rebuilt(way, at) - weight) * gradient).sum()
        wanted += 0.0 if shift is None else (shift * added).sum()
        assert change(at) == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_cp_finds_the_components_that_a_kernel_is_made_of() -> None:
    parts = [RNG.standard_normal((size, 4)) for size in (16, 12, 3, 3)]
    weight = np.einsum("or,ir,hr,wr->oihw", *parts)
    assert decompositions.cp(weight, None).error((4,)) < 1e-3


def test_bayes_finds_the_rank_beneath_noise() -> None:
    signal = RNG.standard_normal((64, 10)) @ RNG.standard_normal((10, 300))
    noisy = signal + 0.5 * RNG.standard_normal((64, 300))
    assert ranks.by_bayes(noisy) == 10
    assert ranks.by_bayes(noisy.T) == 10


def test_a_budget_is_spread_almost_as_well_as_by_trying_everything() -> None:
    """The best way of all is found in most cases; on average, the error is 5 % more at most."""
    drawn, ratios = np.random.default_rng(0), list[float]()
    for _ in range(100):
        options = [
            [
                Option(10.0, 0.0),
                *(Option(float(c), float(e)) for c, e in drawn.uniform(1, 9, (3, 2))),
            ]
            for _ in range(4)
        ]
        budget = float(drawn.uniform(20, 35))
        best = min(
            sum(each[i].error for each, i in zip(options, picks, strict=True))
            for picks in product(range(4), repeat=4)
            if sum(each[i].cost for each, i in zip(options, picks, strict=True)) <= budget
        )
        found = ranks.distribute(options, budget)
        assert found is not None
        assert sum(e[i].cost for e, i in zip(options, found, strict=True)) <= budget
        ratios.append(sum(e[i].error for e, i in zip(options, found, strict=True)) / best)
    assert np.mean(np.array(ratios) < 1 + 1e-9) > 0.7
    assert np.mean(ratios) < 1.05
    assert max(ratios) < 2
