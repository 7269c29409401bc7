"""The candidates for a layer: its decompositions, each at several ranks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.steps import LowRank
from workers.compression.methods.low_rank import decompositions
from workers.compression.methods.low_rank.algebra import Array
from workers.compression.methods.low_rank.decompositions import (
    ChannelMoments,
    Decomposition,
    Ranks,
)
from workers.compression.methods.low_rank.layers import LowRankLayer
from workers.compression.methods.low_rank.ranks import by_bayes
from workers.compression.methods.low_rank.writer import chain_macs

_STEPS = 16
"""The number of ranks of one decomposition that are considered."""
_BLOCK = 8
"""Ranks are multiples of the block that the runtime's kernels compute at once."""

DECOMPOSITIONS: dict[str, Callable[[Array, ChannelMoments | None], Decomposition]] = {
    "svd": decompositions.svd,
    "tucker2": decompositions.tucker2,
    "spatial_svd": decompositions.spatial_svd,
    "cp": decompositions.cp,
}


@dataclass(frozen=True)
class Candidate:
    """A layer's decomposition at certain ranks, with its costs and its loss."""

    decomposition: Decomposition
    ranks: Ranks
    macs: int
    parameters: int
    error: float
    """The lost share of the power of the layer's output, 0 to 1."""
    loss: float
    """The measure by which candidates are compared: ``error``, or the error of the graph's
    outputs."""


CandidatesOfLayers = Sequence[Sequence[Candidate]]
"""The candidates of each layer."""


def candidates(
    layer: LowRankLayer, parameters: LowRank, moments: ChannelMoments | None
) -> list[Candidate]:
    """Return the candidates for a layer that save MACs.

    Args:
        layer: the layer to factorise.
        parameters: the decompositions to consider, and how ranks are chosen.
        moments: the moments of the layer's activations; None without data.
    """
    weight = layer.weight.astype(np.float64)
    candidates_found = []
    for name in _decompositions(layer, parameters):
        decomposition = DECOMPOSITIONS[name](weight, moments)
        for ranks in dict.fromkeys(_ranks(decomposition, weight, parameters)):
            factors = decomposition.factors(ranks)
            macs = chain_macs(layer, factors)
            if macs < layer.macs:
                size = sum(factor.weight.size for factor in factors)
                error = decomposition.error(ranks)
                candidates_found.append(
                    Candidate(decomposition, ranks, macs, size, error, loss=error)
                )
    return candidates_found


def _decompositions(layer: LowRankLayer, parameters: LowRank) -> list[str]:
    """Return the decompositions that a layer's kernel allows."""
    requested, kernel = parameters.decomposition, layer.weight.shape[2:]
    if max(kernel, default=1) == 1:
        return ["svd"]
    one_dimensional = len(kernel) != 2 or min(kernel) == 1
    if requested == "auto":
        return ["svd", "tucker2"] if one_dimensional else ["svd", "tucker2", "spatial_svd"]
    return ["svd"] if one_dimensional and requested == "spatial_svd" else [requested]


def _ranks(decomposition: Decomposition, weight: Array, parameters: LowRank) -> Iterator[Ranks]:
    """Yield the ranks to consider: a grid of ranks, or those that energy or Bayes chooses."""
    if parameters.has_budget:
        yield from _grid(decomposition.full)
    elif parameters.rank == "vbmf" and parameters.energy is None:
        yield _bayes(decomposition, weight)
    else:
        allowed_error = 1 - (parameters.energy if parameters.energy is not None else 0.9)
        sufficient = [
            ranks
            for ranks in _grid(decomposition.full)
            if decomposition.error(ranks) <= allowed_error
        ]
        yield from sufficient[:1]


def _grid(full: Ranks) -> Iterator[Ranks]:
    """Yield ranks in ascending order, the same share of the full rank on each axis."""
    for step in range(1, _STEPS + 1):
        yield tuple(_rounded(size * step / _STEPS, size) for size in full)


def _rounded(rank: float, most: int) -> int:
    """Round a rank up to a multiple of the block where the full rank has several blocks."""
    block = _BLOCK if most >= 4 * _BLOCK else 1
    return min(max(int(np.ceil(rank / block)) * block, 1), most)


def _bayes(decomposition: Decomposition, weight: Array) -> Ranks:
    """Return the ranks of the unfoldings that belong to a decomposition's axes."""
    unfoldings = [weight.reshape(weight.shape[0], -1)]
    if len(decomposition.full) == 2:
        unfoldings.insert(0, np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1))
    ranks = (by_bayes(unfolding) for unfolding in unfoldings)
    return tuple(_rounded(rank, most) for rank, most in zip(ranks, decomposition.full, strict=True))
