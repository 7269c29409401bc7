"""Compact networks as they are laid out for small inputs, in plain PyTorch.

The convolutional ones follow their papers, with the strides of the widely used layouts for CIFAR
(https://github.com/kuangliu/pytorch-cifar): 32 × 32 pixels become 4 × 4.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks._networks import Inverted, conv_norm

MOBILE_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
"""For each stage of MobileNetV2: expansion, channels, blocks, stride of the first block."""
SHUFFLE_STAGES = ((116, 4), (232, 8), (464, 4))
"""For each stage of ShuffleNetV2: channels, units; the first unit halves the picture."""


def mobilenet_v2(classes: int, width: float) -> nn.Module:
    """Return a MobileNetV2 (Sandler et al. 2018)."""
    channels = _multiple(32 * width, 8)
    layers = [conv_norm(1, channels, 3), nn.ReLU6()]
    for expansion, base, count, stride in MOBILE_STAGES:
        outputs = _multiple(base * width, 8)
        for index in range(count):
            layers.append(Inverted(channels, expansion * channels, outputs, 1 if index else stride))
            channels = outputs
    last = _multiple(1280 * min(width, 1.0), 8)
    return nn.Sequential(*layers, conv_norm(channels, last, 1), nn.ReLU6(), *_head(last, classes))


def shufflenet_v2(classes: int, width: float) -> nn.Module:
    """Return a ShuffleNetV2 (Ma et al. 2018)."""
    channels, layers = 24, [conv_norm(1, 24, 3), nn.ReLU()]
    for base, count in SHUFFLE_STAGES:
        half = _multiple(base / 2 * width, 2)
        layers.append(Unit(channels, half, halves=True))
        layers += [Unit(half, half, halves=False) for _ in range(count - 1)]
        channels = 2 * half
    last = _multiple(1024 * min(width, 1.0), 8)
    return nn.Sequential(*layers, conv_norm(channels, last, 1), nn.ReLU(), *_head(last, classes))


class Unit(nn.Module):
    """A unit of ShuffleNetV2, which halves the picture or splits the channels."""

    def __init__(self, inputs: int, half: int, *, halves: bool) -> None:
        super().__init__()
        stride = 2 if halves else 1
        self.branch = nn.Sequential(
            conv_norm(inputs, half, 1), nn.ReLU(),
            conv_norm(half, half, 3, stride, half), conv_norm(half, half, 1), nn.ReLU(),
        )  # fmt: skip
        self.short = nn.Sequential(
            conv_norm(inputs, inputs, 3, stride, inputs), conv_norm(inputs, half, 1), nn.ReLU()
        ) if halves else None  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.short is None:
            left, right = x.chunk(2, 1)
        else:
            left, right = self.short(x), x
        return torch.stack([left, self.branch(right)], 2).flatten(1, 2)


class Encoder(nn.Module):
    """A transformer encoder (Vaswani et al. 2017; normalised first) that reads characters."""

    def __init__(self, letters: int, classes: int, width: float, length: int) -> None:
        super().__init__()
        size, layers = _multiple(128 * width, 8), 4
        self.letters = nn.Embedding(letters, size)
        layer = nn.TransformerEncoderLayer(
            size, 4, 4 * size, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(size), enable_nested_tensor=False
        )
        self.head = nn.Linear(size, classes)
        rates = 10_000.0 ** -(torch.arange(size // 2) / (size // 2))
        angles = torch.arange(length)[:, None] * rates
        self.places = torch.cat([angles.sin(), angles.cos()], 1)
        nn.init.normal_(self.letters.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        x = self.layers(self.letters(text) + self.places)
        answer: Tensor = self.head(x.mean(1))
        return answer


def _head(features: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


def _multiple(channels: float, step: int) -> int:
    """Return the nearest multiple, as the authors round: at most a tenth is taken away."""
    count = max(step, int(channels + step / 2) // step * step)
    return count if count >= 0.9 * channels else count + step


REFERENCES: Mapping[str, Callable[[int, float], nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "shufflenet_v2": shufflenet_v2,
}
"""Networks for pictures of one channel, by name: from classes and width."""
