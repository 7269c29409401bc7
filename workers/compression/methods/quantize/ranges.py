"""From observed values to the range that integers should cover: numpy in, two floats out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.steps import Quantize
from workers.compression.histograms import Histogram
from workers.compression.methods.quantize.integers import dequantize, quantize, range_grid

_SHRINKS = np.linspace(0.2, 1.0, 81)
_KL_BINS = 2048
_KL_LEVELS = 128
_KL_STRIDE = 8


Range = tuple[float, float]


def finder(parameters: Quantize) -> Callable[[Histogram], Range]:
    """Return the function that the parameters ask for."""
    if parameters.ranges == "percentile":
        return partial(percentile, share=parameters.percentile / 100)
    if parameters.ranges == "mse":
        return partial(
            mean_squared_error, dtype=parameters.activations, symmetric=parameters.symmetric
        )
    return {"minmax": minmax, "entropy": entropy}[parameters.ranges]


def minmax(histogram: Histogram) -> Range:
    """Cover everything that was seen."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, share: float) -> Range:
    """Cover the ``share`` of smallest magnitudes, clipped to what was seen."""
    order = np.argsort(np.abs(histogram.centers), kind="stable")
    covered = np.cumsum(histogram.counts[order])
    last = int(np.searchsorted(covered, share * covered[-1]))
    reach = abs(histogram.centers[order[min(last, len(order) - 1)]]) + histogram.width / 2
    return _clipped(histogram, float(reach))


def mean_squared_error(histogram: Histogram, *, dtype: str, symmetric: bool) -> Range:
    """Cover the fraction of the extremes that makes the rounding and clipping error least.

    A search over one shrinking factor, as in Choukroun et al., "Low-bit quantization of neural
    networks for efficient inference" (2019), on the histogram.
    """
    values, counts = histogram.centers, histogram.counts

    def error(shrink: float) -> float:
        grid = range_grid(
            histogram.low * shrink, histogram.high * shrink, dtype, symmetric=symmetric
        )
        back = dequantize(quantize(values.astype(np.float32), grid), grid)
        return float(np.sum(counts * np.square(values - back)))

    best = min(_SHRINKS[::-1], key=error)
    return histogram.low * float(best), histogram.high * float(best)


def entropy(histogram: Histogram) -> Range:
    """Cover the magnitudes for which 128 levels keep most information.

    Least Kullback-Leibler divergence between the clipped distribution and its quantized form:
    Migacz, "8-bit inference with TensorRT" (GTC 2017).
    """
    largest = max(abs(histogram.low), abs(histogram.high))
    if largest == 0:
        return 0.0, 0.0
    folded, _ = np.histogram(
        np.abs(histogram.centers), _KL_BINS, (0, largest), weights=histogram.counts
    )
    ends = range(_KL_LEVELS, _KL_BINS + 1, _KL_STRIDE)
    best = min(reversed(ends), key=lambda end: _divergence(folded, end))
    return _clipped(histogram, largest * best / _KL_BINS)


def _divergence(counts: NDArray[Any], end: int) -> float:
    """Return how much the first ``end`` bins lose in ``_KL_LEVELS`` levels."""
    kept = counts[:end].astype(np.float64)
    clipped = kept.copy()
    clipped[-1] += counts[end:].sum()
    starts = np.arange(_KL_LEVELS) * end // _KL_LEVELS
    occupied = kept > 0
    sums = np.add.reduceat(kept, starts)
    sizes = np.add.reduceat(occupied.astype(np.float64), starts)
    level = np.searchsorted(starts, np.arange(end), side="right") - 1
    spread = np.where(occupied, sums[level] / np.maximum(sizes[level], 1), 0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-300)
    both = (p > 0) & (q > 0)
    lost = float(p[(p > 0) & (q == 0)].sum())
    return float(np.sum(p[both] * np.log(p[both] / q[both]))) + lost * 100


def _clipped(histogram: Histogram, reach: float) -> Range:
    return max(histogram.low, -reach), min(histogram.high, reach)
