"""Optimal Brain Compression: zeros are chosen by the error that remains once others compensate.

Near the weights that fit a layer's data best, the layer's squared error is a quadratic form with
the second moments ``H`` of its inputs. If one weight becomes zero, and all others are changed to
compensate, the error grows by ``w² / [H⁻¹]ⱼⱼ`` (Optimal Brain Compression, Frantar & Alistarh,
NeurIPS 2022, after Hassibi & Stork 1993). Columns are processed from the first to the last, and
later columns compensate for earlier ones (SparseGPT, Frantar & Alistarh, ICML 2023): this needs one
factorization for all rows.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from app.domain.steps import Prune
from workers.compression.methods.prune.moments import Rows
from workers.compression.methods.prune.zeros import (
    Mask,
    block_means,
    expand_blocks,
    largest,
    n_of_m,
)

_COLUMNS = 128
"""The number of columns that are processed together before their errors update later columns."""


@dataclass(frozen=True)
class Piece:
    """Columns whose zeros are chosen together."""

    begin: int
    end: int
    zeros: int
    """The number of weights, or blocks, that become zero; not used for ``n:m``."""


def choose(weight: Rows, second: Rows, like: Mask, parameters: Prune) -> tuple[Mask, Rows]:
    """Choose the weights of a layer that are kept.

    Args:
        weight: the best weights without zeros, ``[outputs, inputs, kernel]``.
        second: the second moments of the inputs, ``[inputs · kernel, inputs · kernel]``, positive
            definite.
        like: another mask, ``[outputs, inputs, kernel]``; as many weights are kept as in this one.
        parameters: granularity, n, m, block.

    Returns:
        The mask, and the weights after compensation, both of the shape of ``weight``.
    """
    outputs, inputs, kernel = weight.shape
    columns = np.arange(inputs * kernel).reshape(inputs, kernel)
    if parameters.granularity == "n:m":  # whose neighbours are inputs, at one place of the kernel
        columns = columns.T
    order = columns.reshape(-1)
    flat = torch.from_numpy(second[np.ix_(order, order)])
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(flat))
    adjusted = weight.reshape(outputs, -1)[:, order]
    pieces = _pieces(adjusted**2 / inverse.diagonal().numpy(), like, parameters)
    root = torch.linalg.cholesky(inverse, upper=True).numpy()
    kept = _eliminate(adjusted, root, pieces, parameters)
    inverse_order = np.argsort(order)
    return kept[:, inverse_order].reshape(weight.shape), adjusted[:, inverse_order].reshape(
        weight.shape
    )


def _pieces(cost: Rows, like: Mask, parameters: Prune) -> list[Piece]:
    """Split the columns into pieces.

    The cost of each weight ``[outputs, columns]``, with all other weights kept, determines how many
    weights or blocks of each piece become zero.
    """
    _, inputs, kernel = like.shape
    total = inputs * kernel
    if parameters.granularity == "n:m":
        starts = [
            place + first
            for place in range(0, total, inputs)
            for first in range(0, inputs, parameters.m)
        ]
        return [Piece(begin, end, 0) for begin, end in pairwise([*starts, total])]
    if parameters.granularity == "block":
        tall, wide = parameters.block
        width, step = wide * kernel, 1
        cost, like = block_means(cost, tall, width), like[::tall, ::wide, :1]
    else:
        width = step = _COLUMNS
    zeros = ~largest(cost, 1 - float(like.mean()))
    counts = [int(zeros[:, start : start + step].sum()) for start in range(0, zeros.shape[1], step)]
    starts = [*range(0, total, width), total]
    return [Piece(*span, count) for span, count in zip(pairwise(starts), counts, strict=True)]


def _eliminate(weights: Rows, root: Rows, pieces: list[Piece], parameters: Prune) -> Mask:
    """Set weights to zero, piece by piece, and let later columns compensate.

    Args:
        weights: ``[outputs, columns]``; changed in place.
        root: the upper Cholesky factor of the inverse of the moments.
        pieces: all columns, in order.
        parameters: the granularity of the choice.
    """
    kept = np.ones(weights.shape, np.bool_)
    errors = np.zeros_like(weights)
    applied = reached = 0
    for piece in pieces:
        if piece.begin == reached:
            weights[:, reached:] -= errors[:, applied:reached] @ root[applied:reached, reached:]
            applied, target = reached, min(reached + _COLUMNS, weights.shape[1])
            reached = next(later.end for later in pieces if later.end >= target)
        columns = slice(piece.begin, piece.end)
        kept[:, columns] = _keep(
            (weights[:, columns] / root.diagonal()[columns]) ** 2, piece.zeros, parameters
        )
        for column in range(piece.begin, piece.end):
            error = np.where(kept[:, column], 0, weights[:, column]) / root[column, column]
            weights[:, column:reached] -= np.outer(error, root[column, column:reached])
            errors[:, column] = error
    weights[~kept] = 0
    return kept


def _keep(cost: Rows, zeros: int, parameters: Prune) -> Mask:
    """Return the mask of the weights of a piece that are kept."""
    if parameters.granularity == "n:m":
        return n_of_m(cost, parameters.n, parameters.m)
    if parameters.granularity == "block":
        tall, wide = parameters.block[0], cost.shape[1]
        blocks = block_means(cost, tall, wide)
        return expand_blocks(largest(blocks, zeros / blocks.size), cost.shape, tall, wide)
    return largest(cost, zeros / cost.size)
