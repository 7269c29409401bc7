"""A few samples for people to look at: pictures, waves or numbers."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.domain.datasets import Glimpse, Numbers, Picture, Targets, Wave

MOST_BYTES = 64 << 20
"""Samples of more bytes than this are not shown."""

_SAMPLES = 12
_ARRAYS = 4
_SIDE = 128
"""Pixels of a picture's longer side."""
_SMALLEST_PICTURE = 8
_STRETCHES = 160
_SHORTEST_WAVE = 128
_FIRST_NUMBERS = 12
_CHANNELS = (1, 3)

Rows = Mapping[str, NDArray[Any]]
"""By array name; the first axis counts the samples that are shown."""


def positions(samples: int) -> list[int]:
    """Return the positions of the samples to show, spread evenly over the dataset.

    Rows are often sorted by class, so the first ones would all be of one class.
    """
    shown = min(_SAMPLES, samples)
    return [index * samples // shown for index in range(shown)]


def glimpses(
    rows: Rows, shown: list[int], targets: NDArray[Any] | None, described: Targets | None
) -> list[Glimpse]:
    """Return pictures, waves or numbers of some samples.

    Args:
        rows: the samples, ``[len(shown), ...]`` for each array.
        shown: their positions in the dataset.
        targets: all targets of the dataset, ``[samples, ...]``.
        described: the description of the targets.
    """
    return [
        Glimpse(
            array=name,
            sample=sample,
            target=_target(sample, targets, described),
            shown=_show(values[index]),
        )
        for index, sample in enumerate(shown)
        for name, values in list(rows.items())[:_ARRAYS]
    ]


def picture(image: Image.Image) -> Picture:
    """Return an image, scaled down to the size in which it is shown."""
    image.thumbnail((_SIDE, _SIDE))
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return Picture(png=base64.b64encode(packed.getvalue()))


def _target(sample: int, targets: NDArray[Any] | None, described: Targets | None) -> str | None:
    if targets is None or described is None or targets.ndim > 1:
        return None
    value = targets[sample]
    if isinstance(described.classes, list):
        return described.classes[int(value)]
    return f"{value:.6g}" if targets.dtype.kind == "f" else str(int(value))


def _show(values: NDArray[Any]) -> Picture | Wave | Numbers:
    """Return a picture, a wave or numbers, depending on the shape of the sample."""
    pixels = _pixels(values)
    if pixels is not None:
        return picture(Image.fromarray(pixels))
    signal = np.squeeze(values)
    if signal.ndim == 1 and signal.size >= _SHORTEST_WAVE and signal.dtype.kind == "f":
        return _wave(_finite(signal))
    first = values.reshape(-1)[:_FIRST_NUMBERS]
    more = ", …" if values.size > _FIRST_NUMBERS else ""
    return Numbers(text=", ".join(f"{value:.4g}" for value in first.tolist()) + more)


def _pixels(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return ``[height, width]`` or ``[height, width, 3]``, or None for no picture."""
    if values.ndim == 3 and values.shape[0] in _CHANNELS and values.shape[2] not in _CHANNELS:
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    channels = values.shape[2:] in ((), (3,))
    if values.ndim < 2 or not channels or min(values.shape[:2]) < _SMALLEST_PICTURE:
        return None
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    step = max(1, max(values.shape[:2]) // (4 * _SIDE))
    plane = _finite(values[::step, ::step])
    low, high = plane.min(), plane.max()
    scaled = (plane - low) / max(high - low, 1e-12) * 255
    return np.asarray(scaled.round(), dtype=np.uint8)


def _wave(signal: NDArray[np.float64]) -> Wave:
    """Return the envelope of a signal, scaled so that its largest value is 1."""
    largest = np.abs(signal).max() or 1.0
    stretches = np.array_split(signal / largest, min(_STRETCHES, signal.size))
    return Wave(
        lows=[round(float(stretch.min()), 3) for stretch in stretches],
        highs=[round(float(stretch.max()), 3) for stretch in stretches],
    )


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values with zeros in place of NaN and infinity."""
    wide = values.astype(np.float64)
    wide[~np.isfinite(wide)] = 0
    return np.clip(wide, -1e300, 1e300)
