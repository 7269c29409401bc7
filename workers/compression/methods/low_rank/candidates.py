"""The ways in which one layer may be had: as it is, or factorised at some ranks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from app.domain.steps import LowRank
from workers.compression.methods.low_rank import decompositions
from workers.compression.methods.low_rank.decompositions import (
    Array,
    ChannelMoments,
    Decomposition,
    Ranks,
)
from workers.compression.methods.low_rank.layers import LowRankLayer
from workers.compression.methods.low_rank.ranks import by_bayes
from workers.compression.methods.low_rank.writer import chain_macs

_STEPS = 16
"""Ranks of one decomposition that are looked at."""
_BLOCK = 8
"""Ranks are multiples of what the runtime's kernels compute at once."""

DECOMPOSITIONS: dict[str, Callable[[Array, ChannelMoments | None], Decomposition]] = {
    "svd": decompositions.svd,
    "tucker2": decompositions.tucker2,
    "spatial_svd": decompositions.spatial_svd,
    "cp": decompositions.cp,
}


@dataclass(frozen=True)
class Candidate:
    """A layer at some ranks."""

    decomposition: Decomposition
    ranks: Ranks
    macs: int
    parameters: int
    error: float
    """Share of the layer's output that is lost, 0 to 1."""
    loss: float
    """What layers are compared by: the error, or what the whole graph's outputs lose by it."""


def candidates(
    layer: LowRankLayer, parameters: LowRank, moments: ChannelMoments | None
) -> list[Candidate]:
    """Return what saves MACs, by what is asked for.

    Args:
        layer: to factorise.
        parameters: which decompositions, and how ranks are found.
        moments: of its activations, if known.
    """
    weight = layer.weight.astype(np.float64)
    found = []
    for name in _ways(layer, parameters):
        way = DECOMPOSITIONS[name](weight, moments)
        for at in dict.fromkeys(_ranks(way, weight, parameters)):
            factors = way.factors(at)
            macs = chain_macs(layer, factors)
            if macs < layer.macs:
                size = sum(factor.weight.size for factor in factors)
                error = way.error(at)
                found.append(Candidate(way, at, macs, size, error, loss=error))
    return found


def _ways(layer: LowRankLayer, parameters: LowRank) -> list[str]:
    """Return the decompositions that a layer's kernel allows."""
    asked, kernel = parameters.decomposition, layer.weight.shape[2:]
    if max(kernel, default=1) == 1:
        return ["svd"]
    flat = len(kernel) != 2 or min(kernel) == 1
    if asked == "auto":
        return ["svd", "tucker2"] if flat else ["svd", "tucker2", "spatial_svd"]
    return ["svd"] if flat and asked == "spatial_svd" else [asked]


def _ranks(way: Decomposition, weight: Array, parameters: LowRank) -> Iterator[Ranks]:
    """Yield the ranks to look at: all, or the one that energy or Bayes asks for."""
    if parameters.has_budget:
        yield from _grid(way.full)
    elif parameters.rank == "vbmf" and parameters.energy is None:
        yield _bayes(way, weight)
    else:
        lost = 1 - (parameters.energy if parameters.energy is not None else 0.9)
        enough = [at for at in _grid(way.full) if way.error(at) <= lost]
        yield from enough[:1]


def _grid(full: Ranks) -> Iterator[Ranks]:
    """Yield ranks from few to many, all axes in step."""
    for step in range(1, _STEPS + 1):
        yield tuple(_rounded(size * step / _STEPS, size) for size in full)


def _rounded(rank: float, most: int) -> int:
    """Round up to whole blocks where there are several."""
    block = _BLOCK if most >= 4 * _BLOCK else 1
    return min(max(int(np.ceil(rank / block)) * block, 1), most)


def _bayes(way: Decomposition, weight: Array) -> Ranks:
    """Return the ranks of the unfoldings that a decomposition's axes come from."""
    unfoldings = [weight.reshape(weight.shape[0], -1)]
    if len(way.full) == 2:
        unfoldings.insert(0, np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1))
    found = (by_bayes(unfolding) for unfolding in unfoldings)
    return tuple(_rounded(rank, most) for rank, most in zip(found, way.full, strict=True))
