"""Where made samples come from: numbers that are trained themselves, or a network that is.

Both give numbers of about mean 0 and variance 1, ``[samples, …]``, for each input.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from workers.compression.samples.declared import sides

Shapes = Mapping[str, Sequence[int]]
"""Of one sample, for each input that is made."""

_SEEDS = 100
"""Random numbers that a network makes a sample of."""
_WIDEST, _CHANNEL_PLACES = 64, 16 * 1024
"""Channels of its pictures at a quarter of their size: fewer where they are large."""
_HIDDEN, _MOST_WEIGHTS = 256, 1 << 22
"""Units of a hidden layer: fewer where a sample is long."""
_LEAST_SIDE = 8
"""Of what is made as a picture is: it is doubled twice."""
_FARTHEST = 2.5
"""Deviations from the mean of its input that no number of a picture is beyond. Without an end,
single bright spots made up a batch's variance, and pictures were dark beside them."""


class Source(Protocol):
    """What made samples come from."""

    rate: float
    """Of learning."""

    def parameters(self) -> list[Tensor]:
        """Return what is trained."""

    def make(self, count: int, random: torch.Generator) -> dict[str, Tensor]:
        """Return samples of each input."""


class Pixels:
    """The numbers of one batch of samples, each trained itself (ZeroQ, DeepInversion)."""

    rate = 0.1

    def __init__(self, start: Mapping[str, Tensor]) -> None:
        self._values = {name: value.clone().requires_grad_() for name, value in start.items()}

    def parameters(self) -> list[Tensor]:
        """Return the samples themselves: they are trained."""
        return list(self._values.values())

    def make(self, count: int, random: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the samples as they are now: the same ones each time."""
        return {name: value[:count] for name, value in self._values.items()}


class Network:
    """A network that makes samples of random numbers, trained against the teacher (DAFL)."""

    rate = 2e-3

    def __init__(self, shapes: Shapes, device: str) -> None:
        self._device = device
        self._networks = {name: _network(shape).to(device) for name, shape in shapes.items()}
        for network in self._networks.values():  # a third less time on a CPU
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch: tensors only

    def parameters(self) -> list[Tensor]:
        """Return the weights of the networks."""
        return [each for net in self._networks.values() for each in net.parameters()]

    def make(self, count: int, random: torch.Generator) -> dict[str, Tensor]:
        """Return new samples."""
        seeds = torch.randn(count, _SEEDS, generator=random).to(self._device)
        return {name: net(seeds) for name, net in self._networks.items()}


def _network(shape: Sequence[int]) -> nn.Module:
    """Return a network from ``[N, seeds]`` to ``[N, *shape]``.

    That of DAFL (Chen et al. 2019) for pictures, and for tables with sides of their size; for all
    else two hidden layers. Its output is normalised by the batch, and the network learns by how
    much, and about what. Pictures are bounded behind that, and not before it as there.
    """
    axes = sides((1, *shape))
    if axes == (2, 3) and min(shape[1:]) >= _LEAST_SIDE:
        return _Pictures(*shape)
    if axes == (1, 2) and min(shape[:2]) >= _LEAST_SIDE:
        height, width, channels = shape
        return nn.Sequential(_Pictures(channels, height, width), _ChannelsLast())
    if len(shape) == 2 and min(shape) >= _LEAST_SIDE:
        return nn.Sequential(_Pictures(1, *shape), nn.Flatten(1, 2))
    size = math.prod(shape)
    hidden = max(_LEAST_SIDE, min(_HIDDEN, _MOST_WEIGHTS // max(size, 1)))
    return nn.Sequential(
        nn.Linear(_SEEDS, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, size), nn.BatchNorm1d(size), nn.Unflatten(1, tuple(shape)),
    )  # fmt: skip


class _ChannelsLast(nn.Module):
    """Turns ``[N, C, H, W]`` into ``[N, H, W, C]``."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the same pictures."""
        return pictures.movedim(1, 3)


class _Pictures(nn.Module):
    """Doubles a small picture twice; the last part of a size that four does not divide is cut."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self._height, self._width = height, width
        places = math.ceil(height / 4), math.ceil(width / 4)
        wide = max(16, min(_WIDEST, _CHANNEL_PLACES // math.prod(places)))
        half = max(wide // 2, 8)
        self._layers = nn.Sequential(
            nn.Linear(_SEEDS, wide * math.prod(places)), nn.Unflatten(1, (wide, *places)),
            nn.BatchNorm2d(wide),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(wide, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(wide, half, 3, padding=1), nn.BatchNorm2d(half), nn.LeakyReLU(0.2),
            nn.Conv2d(half, channels, 3, padding=1),
        )  # fmt: skip
        self._norm = nn.BatchNorm2d(channels)

    def forward(self, seeds: Tensor) -> Tensor:
        """Return ``[N, C, H, W]``."""
        pictures = self._layers(seeds)[..., : self._height, : self._width]
        normalised: Tensor = self._norm(pictures)
        return _FARTHEST * torch.tanh(normalised / _FARTHEST)
