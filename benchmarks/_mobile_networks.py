"""Networks with gates: MobileNetV3, EfficientNet, and ConvNeXt beside them, in plain PyTorch.

They are laid out as in their papers, for images of 32 × 32 pixels and one channel, and small enough
to be trained in minutes on one core.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from benchmarks._networks import Activation, Inverted, conv_norm


class Gate(nn.Module):
    """Weighs channels by what all pixels say together (Hu et al. 2018)."""

    def __init__(self, channels: int, narrow: int, bends: Activation, gate: Activation) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, narrow, 1), bends(),
            nn.Conv2d(narrow, channels, 1), gate(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = x * self.layers(x)
        return gated


def mobilenet_v3(classes: int = 10, channels: int = 1) -> nn.Module:
    """MobileNetV3-Small (Howard et al. 2019), whose last strides are left out."""
    rows = (
        (3, 16, 16, True, nn.ReLU, 1), (3, 72, 24, False, nn.ReLU, 2),
        (3, 88, 24, False, nn.ReLU, 1), (5, 96, 40, True, nn.Hardswish, 2),
        (5, 240, 40, True, nn.Hardswish, 1), (5, 240, 40, True, nn.Hardswish, 1),
        (5, 120, 48, True, nn.Hardswish, 1), (5, 144, 48, True, nn.Hardswish, 1),
        (5, 288, 96, True, nn.Hardswish, 1), (5, 576, 96, True, nn.Hardswish, 1),
    )  # fmt: skip
    blocks, inputs = list[nn.Module](), 16
    for kernel, wide, outputs, has_gate, bends, stride in rows:
        gate = Gate(wide, _eights(wide / 4), nn.ReLU, nn.Hardsigmoid) if has_gate else None
        blocks.append(Inverted(inputs, wide, outputs, stride, kernel, bends, gate))
        inputs = outputs
    return nn.Sequential(
        conv_norm(channels, 16, 3, 2), nn.Hardswish(), *blocks,
        conv_norm(inputs, 576, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(576, 512), nn.Hardswish(), nn.Linear(512, classes),
    )  # fmt: skip


def efficientnet(classes: int = 10, channels: int = 1) -> nn.Module:
    """An EfficientNet (Tan & Le 2019) of half the width and depth of B0."""
    stages = (
        (1, 8, 1, 1, 3), (6, 16, 1, 2, 3), (6, 24, 1, 2, 5), (6, 40, 2, 2, 3), (6, 56, 2, 1, 5),
        (6, 96, 2, 1, 5), (6, 160, 1, 1, 3),
    )  # fmt: skip
    blocks, inputs = list[nn.Module](), 16
    for factor, outputs, count, first_stride, kernel in stages:
        for index in range(count):
            wide, stride = inputs * factor, 1 if index else first_stride
            gate = Gate(wide, max(inputs // 4, 4), nn.SiLU, nn.Sigmoid)
            blocks.append(Inverted(inputs, wide, outputs, stride, kernel, nn.SiLU, gate))
            inputs = outputs
    return nn.Sequential(
        conv_norm(channels, 16, 3), nn.SiLU(), *blocks,
        conv_norm(inputs, 640, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(640, classes),
    )  # fmt: skip


class ChannelNorm(nn.Module):
    """Normalises the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normal.permute(0, 3, 1, 2)


class Next(nn.Module):
    """A block of ConvNeXt: a wide kernel for each channel, then products of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.spread(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.wide(y)))
        answer: Tensor = x + y.permute(0, 3, 1, 2)
        return answer


def convnext(
    classes: int = 10,
    channels: int = 1,
    widths: Sequence[int] = (32, 64, 128),
    depths: Sequence[int] = (2, 2, 2),
) -> nn.Module:
    """A ConvNeXt (Liu et al. 2022) of three stages, for patches of two pixels."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 2, 2), ChannelNorm(widths[0])]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            layers += [ChannelNorm(widths[stage - 1]), nn.Conv2d(widths[stage - 1], width, 2, 2)]
        layers += [Next(width) for _ in range(depth)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(widths[-1]),
        nn.Linear(widths[-1], classes),
    )  # fmt: skip


def _eights(channels: float) -> int:
    """Return the nearest multiple of eight, eight at least."""
    return max(8, int(channels + 4) // 8 * 8)
