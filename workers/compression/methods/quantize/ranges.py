"""Chooses the range that integers cover from a histogram of observed values."""

from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from app.domain.steps import Quantize, RangeRule
from workers.compression.looking.histograms import Histogram
from workers.compression.methods.quantize.integers import (
    BITS,
    dequantize,
    quantize,
    range_grid,
)

_SHRINKS = np.geomspace(0.02, 1.0, 80)
_KL_BINS = 2048
_KL_LEAST = 16 * _KL_BINS
_KL_STRIDE = 8


Range = tuple[float, float]


def finder(parameters: Quantize, rule: RangeRule) -> Callable[[Histogram], Range]:
    """Return the function that finds ranges by a rule, for the activations' type."""
    match rule:
        case "minmax":
            return minmax
        case "percentile":
            return partial(percentile, share=parameters.percentile / 100)
        case "mse":
            return partial(
                mean_squared_error, dtype=parameters.activations, symmetric=parameters.symmetric
            )
        case "entropy":
            return partial(entropy, dtype=parameters.activations, symmetric=parameters.symmetric)
        case _:
            assert_never(rule)


def minmax(histogram: Histogram) -> Range:
    """Cover all observed values."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, share: float) -> Range:
    """Cover the ``share`` of values with the smallest magnitudes."""
    order = np.argsort(np.abs(histogram.centers), kind="stable")
    covered = np.cumsum(histogram.counts[order])
    last = int(np.searchsorted(covered, share * covered[-1]))
    limit = abs(histogram.centers[order[min(last, len(order) - 1)]]) + histogram.width / 2
    return _clipped(histogram, float(limit))


def mean_squared_error(histogram: Histogram, *, dtype: str, symmetric: bool) -> Range:
    """Choose the range with the least mean squared error of rounding and clipping.

    A search over one clipping value, as in Choukroun et al., "Low-bit quantization of neural
    networks for efficient inference" (2019), on the histogram.
    """
    values, counts = histogram.centers, histogram.counts

    def error(limit: float) -> float:
        grid = range_grid(*_clipped(histogram, limit), dtype, symmetric=symmetric)
        back = dequantize(quantize(values.astype(np.float32), grid), grid)
        return float(np.sum(counts * np.square(values - back)))

    largest = max(abs(histogram.low), abs(histogram.high))
    return _clipped(histogram, min(largest * _SHRINKS[::-1], key=error))


def entropy(histogram: Histogram, *, dtype: str, symmetric: bool) -> Range:
    """Choose the range for which the grid's levels keep the most information.

    It has the least Kullback-Leibler divergence between the clipped distribution and its quantized
    form: Migacz, "8-bit inference with TensorRT" (GTC 2017). Two details matter. Values around zero
    are not counted, as every grid represents them: the zeros of a Relu would outweigh all clipped
    values. And a tensor that is nearly all positive uses nearly all levels of an asymmetric type.
    If there are too few values for a histogram, all are covered.
    """
    largest = max(abs(histogram.low), abs(histogram.high))
    width = 2 * largest if symmetric else max(histogram.high, 0) - min(histogram.low, 0)
    if largest == 0 or histogram.counts.sum() < _KL_LEAST:
        return minmax(histogram)
    levels = round(largest / width * 2 ** BITS[dtype])
    folded, _ = np.histogram(
        np.abs(histogram.centers), _KL_BINS, (0, largest), weights=histogram.counts
    )
    folded[0] = min(folded[0], folded[1])
    ends = range(levels, _KL_BINS + 1, _KL_STRIDE)
    best = min(reversed(ends), key=lambda end: _divergence(folded, end, levels))
    return _clipped(histogram, largest * best / _KL_BINS)


def _divergence(counts: NDArray[Any], end: int, levels: int) -> float:
    """Return the divergence between the first ``end`` bins and their form in ``levels`` levels."""
    counted = counts[:end].astype(np.float64)
    clipped = counted.copy()
    clipped[-1] += counts[end:].sum()
    if not clipped.any():
        return 0.0
    starts = np.arange(levels) * end // levels
    occupied = counted > 0
    sums = np.add.reduceat(counted, starts)
    sizes = np.add.reduceat(occupied.astype(np.float64), starts)
    level = np.searchsorted(starts, np.arange(end), side="right") - 1
    spread = np.where(occupied, sums[level] / np.maximum(sizes[level], 1), 0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-300)
    both = (p > 0) & (q > 0)
    lost_share = float(p[(p > 0) & (q == 0)].sum())
    return float(np.sum(p[both] * np.log(p[both] / q[both]))) + lost_share * 100


def _clipped(histogram: Histogram, limit: float) -> Range:
    return max(histogram.low, -limit), min(histogram.high, limit)
