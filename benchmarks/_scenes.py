"""Scenes: clothes of Fashion-MNIST here and there on soft grey, and where each of them lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import _clothes

SIDE = 64
"""Pixels of a scene's height and width."""
MOST = 3
"""Clothes that a scene has at most."""
TRAINED, GIVEN, JUDGED = 4_000, 512, 1_000
"""Scenes that a network is trained on, how many of them jobs get, and those that judge it."""

_SMALLEST, _LARGEST = 16, 36
_TRIES = 20
_SEEN = 0.08
"""The brightness above which a pixel belongs to a garment."""


@dataclass(frozen=True)
class Scenes:
    """Pictures and what is in them."""

    images: NDArray[np.float32]
    """``[scenes, 1, side, side]``, from 0 to 1."""
    boxes: NDArray[np.float32]
    """``[scenes, most, 4]``: left, top, right, bottom, in pixels."""
    classes: NDArray[np.int64]
    """``[scenes, most]``; -1 where there is no more."""
    masks: NDArray[np.int64]
    """``[scenes, side, side]``: 0 is the background, and each class one more than its number."""


def trained() -> Scenes:
    """Return the scenes that networks are trained on, whose first ones jobs get."""
    images, classes = _clothes.read("train")
    return _drawn(images, classes, TRAINED, seed=0)


def judged() -> Scenes:
    """Return scenes of other clothes."""
    images, classes = _clothes.read("t10k")
    return _drawn(images, classes, JUDGED, seed=1)


def _drawn(clothes: NDArray[np.uint8], kinds: NDArray[np.int64], count: int, seed: int) -> Scenes:
    random = np.random.default_rng(seed)
    images = np.stack([_background(random) for _ in range(count)])
    boxes = np.zeros((count, MOST, 4), np.float32)
    classes = np.full((count, MOST), -1, np.int64)
    masks = np.zeros((count, SIDE, SIDE), np.int64)
    for scene in range(count):
        for place in range(int(random.integers(1, MOST + 1))):
            chosen = int(random.integers(len(clothes)))
            garment = _resized(clothes[chosen, 0], int(random.integers(_SMALLEST, _LARGEST)))
            free = _free(random, garment.shape, boxes[scene, :place])
            if free is None:
                break
            left, top = free
            height, width = garment.shape
            here = (scene, slice(top, top + height), slice(left, left + width))
            seen = garment > _SEEN
            images[here] = np.where(seen, garment, images[here])
            masks[here] = np.where(seen, kinds[chosen] + 1, masks[here])
            boxes[scene, place] = left, top, left + width, top + height
            classes[scene, place] = kinds[chosen]
    return Scenes(images[:, None], boxes, classes, masks)


def _background(random: np.random.Generator) -> NDArray[np.float32]:
    coarse = Image.fromarray(random.integers(0, 90, (5, 5), np.uint8))
    soft = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / 255
    grain = random.normal(0, 0.03, (SIDE, SIDE))
    return np.clip(soft + grain, 0, 1).astype(np.float32)


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Return a garment of another size, without the black that is around it."""
    bright = image > 255 * _SEEN
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = side / max(cut.shape)
    height, width = (max(int(length * scale), 4) for length in cut.shape)
    resized = Image.fromarray(cut).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32) / np.float32(255)


def _free(
    random: np.random.Generator, shape: tuple[int, ...], taken: NDArray[np.float32]
) -> tuple[int, int] | None:
    """Return where a garment overlaps no other, or None if no place was found."""
    height, width = shape
    for _ in range(_TRIES):
        left, top = int(random.integers(SIDE - width)), int(random.integers(SIDE - height))
        apart = (
            (taken[:, 0] >= left + width) | (taken[:, 2] <= left)
            | (taken[:, 1] >= top + height) | (taken[:, 3] <= top)
        )  # fmt: skip
        if apart.all():
            return left, top
    return None
