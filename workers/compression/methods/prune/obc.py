"""The criterion that asks what a weight's absence costs once the others make up for it.

Near the weights that fit a layer's data best, its squared error is a quadratic form with the second
moments ``H`` of its inputs. Without one weight, and with all others moved to make up for it, the
error grows by ``w² / [H⁻¹]ⱼⱼ`` (Optimal Brain Compression, Frantar & Alistarh, NeurIPS 2022, after
Hassibi & Stork 1993). Columns are decided from the first to the last, and those behind make up for
those before (SparseGPT, Frantar & Alistarh, ICML 2023), which needs one factorization for all rows.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from app.domain.steps import Prune
from workers.compression.methods.prune.moments import Rows
from workers.compression.methods.prune.zeros import Mask, block_means, largest, n_of_m, spread

_COLUMNS = 128
"""Columns that are decided at once, and whose errors reach those far behind at once."""


@dataclass(frozen=True)
class Piece:
    """Columns that are decided at once."""

    begin: int
    end: int
    gone: int
    """Weights, or blocks, that become zero; n of m have a number of their own."""


def choose(weight: Rows, second: Rows, like: Mask, parameters: Prune) -> tuple[Mask, Rows]:
    """Choose the weights of a layer that stay.

    Args:
        weight: ``[outputs, inputs, kernel]``, the best without zeros.
        second: moments of the inputs and kernel ``[inputs · kernel, inputs · kernel]``, positive
            definite.
        like: another choice, ``[outputs, inputs, kernel]``, which says how many stay.
        parameters: granularity, n, m, block.

    Returns:
        What stays, and the weights once they make up for the others, both as ``weight``.
    """
    outputs, inputs, kernel = weight.shape
    columns = np.arange(inputs * kernel).reshape(inputs, kernel)
    if parameters.granularity == "n:m":  # whose neighbours are inputs, at one place of the kernel
        columns = columns.T
    order = columns.reshape(-1)
    flat = torch.from_numpy(second[np.ix_(order, order)])
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(flat))
    left = weight.reshape(outputs, -1)[:, order]
    pieces = _pieces(left**2 / inverse.diagonal().numpy(), like, parameters)
    root = torch.linalg.cholesky(inverse, upper=True).numpy()
    kept = _eliminate(left, root, pieces, parameters)
    back = np.argsort(order)
    return kept[:, back].reshape(weight.shape), left[:, back].reshape(weight.shape)


def _pieces(cost: Rows, like: Mask, parameters: Prune) -> list[Piece]:
    """Cut the columns into pieces that are decided at once.

    How many weights or blocks each one loses is told by their cost ``[outputs, columns]`` while all
    others are still there.
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
    gone = ~largest(cost, 1 - float(like.mean()))
    counts = [int(gone[:, at : at + step].sum()) for at in range(0, gone.shape[1], step)]
    starts = [*range(0, total, width), total]
    return [Piece(*span, count) for span, count in zip(pairwise(starts), counts, strict=True)]


def _eliminate(left: Rows, root: Rows, pieces: list[Piece], parameters: Prune) -> Mask:
    """Set weights to zero, piece by piece; the columns behind make up for it, in place.

    Args:
        left: ``[outputs, columns]``; changed.
        root: the upper triangle whose product with itself is the inverse of the moments.
        pieces: all columns, in order.
        parameters: what is chosen within a piece.
    """
    kept = np.ones(left.shape, np.bool_)
    errors = np.zeros_like(left)
    told = near = 0
    for piece in pieces:
        if piece.begin == near:
            left[:, near:] -= errors[:, told:near] @ root[told:near, near:]
            told, least = near, min(near + _COLUMNS, left.shape[1])
            near = next(each.end for each in pieces if each.end >= least)
        own = slice(piece.begin, piece.end)
        kept[:, own] = _keep((left[:, own] / root.diagonal()[own]) ** 2, piece.gone, parameters)
        for column in range(piece.begin, piece.end):
            error = np.where(kept[:, column], 0, left[:, column]) / root[column, column]
            left[:, column:near] -= np.outer(error, root[column, column:near])
            errors[:, column] = error
    left[~kept] = 0
    return kept


def _keep(cost: Rows, gone: int, parameters: Prune) -> Mask:
    """Choose within a piece."""
    if parameters.granularity == "n:m":
        return n_of_m(cost, parameters.n, parameters.m)
    if parameters.granularity == "block":
        tall, wide = parameters.block[0], cost.shape[1]
        blocks = block_means(cost, tall, wide)
        return spread(largest(blocks, gone / blocks.size), cost.shape, tall, wide)
    return largest(cost, gone / cost.size)
