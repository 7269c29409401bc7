"""Augmentation: changes images at random.

``flip`` and ``shift`` keep what an image shows; what ``mix`` gives has to be asked of a teacher.
"""

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MIXED = 0.5
"""The share of images that a part of another one is pasted into."""


def augment(images: Tensor, kinds: Collection[str], random: np.random.Generator) -> Tensor:
    """Mirror, move and mix the images of a batch, each one independently.

    ``flip`` mirrors half of them from left to right; ``shift`` moves by up to an eighth of height
    and width, and edges are repeated; ``mix`` pastes a box of another image of the batch into half
    of them, at the same place (CutMix, Yun et al. 2019).

    Args:
        images: float ``[N, C, H, W]`` or ``[N, H, W, C]``: the smaller of the second and the last
            dimension counts the channels.
        kinds: the allowed changes, ``flip``, ``shift`` and ``mix``.
        random: the source of random numbers.
    """
    last = images.shape[3] < images.shape[1]
    planes = images.movedim(3, 1) if last else images
    count, _, height, width = planes.shape
    rows, columns = _places(count, height), _places(count, width)
    if "shift" in kinds:
        rows = _moved(rows, random)
        columns = _moved(columns, random)
    if "flip" in kinds:
        mirrored = torch.from_numpy(random.random(count) < 0.5)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    sample = torch.arange(count)[:, None, None]
    index = [
        indices.to(planes.device) for indices in (sample, rows[:, :, None], columns[:, None, :])
    ]
    changed = planes.movedim(1, 3)[index[0], index[1], index[2]]
    if "mix" in kinds:
        changed = _mixed(changed, random)
    return changed if last else changed.movedim(3, 1).contiguous()


def _places(count: int, size: int) -> Tensor:
    return torch.arange(size).expand(count, size)


def _moved(places: Tensor, random: np.random.Generator) -> Tensor:
    count, size = places.shape
    most = max(1, size // 8)
    by = torch.from_numpy(random.integers(-most, most + 1, count))
    return (places + by[:, None]).clamp(0, size - 1)


def _mixed(images: Tensor, random: np.random.Generator) -> Tensor:
    """Mix images ``[N, H, W, C]``; the share of an image that a box may cover is uniform."""
    count, height, width, _ = images.shape
    others = torch.from_numpy(random.permutation(count)).to(images.device)
    sides = np.sqrt(random.random(count)) * (random.random(count) < _MIXED)
    boxes = _covered(height, sides, random)[:, :, None] & _covered(width, sides, random)[:, None]
    return torch.where(torch.from_numpy(boxes[..., None]).to(images.device), images[others], images)


def _covered(
    size: int, sides: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.bool_]:
    """Return the places along an axis that each box covers, ``[boxes, size]``."""
    centres = random.random((len(sides), 1))
    places = (np.arange(size) + 0.5) / size
    covered: NDArray[np.bool_] = np.abs(places - centres) < sides[:, None] / 2
    return covered
