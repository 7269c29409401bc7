"""Chooses the weights that become zero: single weights, n of m neighbours, or blocks.

Arrays in, masks out. Weights are ``[outputs, inputs, kernel…]``. ``sparse`` takes them from the
graph, and ``criteria`` scores them.
"""

from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from app.domain.steps import Prune

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
"""True for weights that are kept."""


def masks(
    scores: Mapping[str, NDArray[np.float64]], parameters: Prune, sparsity: float
) -> dict[str, Mask]:
    """Choose the weights that are kept.

    Args:
        scores: the importance of the weights, ``[outputs, inputs, kernel…]``, by the tensor's name.
        parameters: granularity and scope.
        sparsity: the share to set to zero; ``n:m`` does not use it.
    """
    match parameters.granularity:
        case "n:m":
            return {
                name: n_of_m(layer_scores, parameters.n, parameters.m)
                for name, layer_scores in scores.items()
            }
        case "block":
            tall, wide = parameters.block
            blocks = {
                name: block_means(layer_scores, tall, wide) for name, layer_scores in scores.items()
            }
            kept = _largest_kept(blocks, parameters.scope, sparsity)
            return {n: expand_blocks(kept[n], scores[n].shape, tall, wide) for n in kept}
        case "unstructured":
            return _largest_kept(scores, parameters.scope, sparsity)
        case "channel":
            raise AssertionError("channels are cut, not set to zero")
        case granularity:
            assert_never(granularity)


def _largest_kept(
    scores: Mapping[str, NDArray[np.float64]], scope: str, sparsity: float
) -> dict[str, Mask]:
    """Return the masks without the smallest scores, of each layer or of all layers together."""
    if scope == "layer":
        return {name: largest(layer_scores, sparsity) for name, layer_scores in scores.items()}
    flat = np.concatenate([layer_scores.reshape(-1) for layer_scores in scores.values()])
    kept = largest(flat, sparsity)
    ends = np.cumsum([layer_scores.size for layer_scores in scores.values()])[:-1]
    parts = np.split(kept, ends)
    return {n: k.reshape(s.shape) for (n, s), k in zip(scores.items(), parts, strict=True)}


def largest(scores: NDArray[np.float64], sparsity: float) -> Mask:
    """Keep the largest scores, so that exactly the share ``sparsity`` is not kept."""
    flat = scores.reshape(-1)
    kept = np.ones(flat.size, np.bool_)
    count = round(sparsity * flat.size)
    if count:
        kept[np.argpartition(flat, count - 1)[:count]] = False
    return kept.reshape(scores.shape)


def n_of_m(scores: NDArray[np.float64], n: int, m: int) -> Mask:
    """Keep the n largest of each m neighbouring inputs; a rest shorter than m is kept."""
    kept = np.ones(scores.shape, np.bool_)
    grouped = scores.shape[1] // m * m
    inputs_last = np.moveaxis(scores[:, :grouped], 1, -1)
    groups = inputs_last.reshape(*inputs_last.shape[:-1], -1, m)
    ranks = np.argsort(np.argsort(groups, axis=-1), axis=-1)
    chosen = (ranks >= m - n).reshape(inputs_last.shape)
    kept[:, :grouped] = np.moveaxis(chosen, -1, 1)
    return kept


def block_means(scores: NDArray[np.float64], tall: int, wide: int) -> NDArray[np.float64]:
    """Return the mean of each block of outputs and inputs, the kernel included."""
    plane = scores.reshape(*scores.shape[:2], -1).mean(axis=2)
    rows, columns = np.arange(0, plane.shape[0], tall), np.arange(0, plane.shape[1], wide)
    sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1)
    heights = np.diff(np.append(rows, plane.shape[0]))
    widths = np.diff(np.append(columns, plane.shape[1]))
    return np.asarray(sums / np.outer(heights, widths))


def expand_blocks(blocks: Mask, shape: tuple[int, ...], tall: int, wide: int) -> Mask:
    """Return the mask of the weights from the mask of their blocks."""
    plane = blocks.repeat(tall, axis=0).repeat(wide, axis=1)[: shape[0], : shape[1]]
    return np.broadcast_to(plane.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape).copy()
