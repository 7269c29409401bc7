"""Augmentation: changes images at random, in ways that keep what they show."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor


def augment(images: Tensor, kinds: Collection[str], random: np.random.Generator) -> Tensor:
    """Mirror and move the images of a batch, each one independently.

    ``flip`` mirrors half of them from left to right; ``shift`` moves by up to an eighth of height
    and width, and edges are repeated.

    Args:
        images: float ``[N, C, H, W]`` or ``[N, H, W, C]``: the smaller of the second and the last
            dimension counts the channels.
        kinds: the allowed changes, ``flip`` and ``shift``.
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
    return changed if last else changed.movedim(3, 1).contiguous()


def _places(count: int, size: int) -> Tensor:
    return torch.arange(size).expand(count, size)


def _moved(places: Tensor, random: np.random.Generator) -> Tensor:
    count, size = places.shape
    most = max(1, size // 8)
    by = torch.from_numpy(random.integers(-most, most + 1, count))
    return (places + by[:, None]).clamp(0, size - 1)
