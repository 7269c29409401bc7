"""Networks of common sizes for 32 × 32 images, written as anybody would write them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.short(x))


def resnet(per_stage: int, classes: int = 10, channels: int = 3) -> nn.Module:
    """The residual network of He et al. (2016) for CIFAR: three stages of 16, 32, 64 channels."""
    blocks, inputs = list[nn.Module](), 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for index in range(per_stage):
            blocks.append(Residual(inputs, outputs, stride if index == 0 else 1))
            inputs = outputs
    return nn.Sequential(
        conv_norm(channels, 16, 3), nn.ReLU(), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
    )  # fmt: skip


def resnet20(classes: int = 10) -> nn.Module:
    """Twenty layers of it."""
    return resnet(3, classes)


Activation = Callable[[], nn.Module]
"""Makes a layer that bends what it gets."""


class Inverted(nn.Module):
    """An inverted residual (Sandler et al. 2018), with a gate before its last layer or without."""

    def __init__(
        self,
        inputs: int,
        wide: int,
        outputs: int,
        stride: int,
        kernel: int = 3,
        bends: Activation = nn.ReLU6,
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        expansion = [conv_norm(inputs, wide, 1), bends()] if wide != inputs else []
        self.body = nn.Sequential(
            *expansion,
            conv_norm(wide, wide, kernel, stride, wide), bends(),
            *([gate] if gate is not None else []),
            conv_norm(wide, outputs, 1),
        )  # fmt: skip
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def _inverted(
    stages: Sequence[tuple[int, int, int]],
    stem: tuple[int, int],
    last: int,
    channels: int,
    classes: int,
) -> nn.Module:
    """A stem, and stages of inverted residuals: channels, blocks, stride of the first."""
    (inputs, stride), blocks = stem, list[nn.Module]()
    blocks += [conv_norm(channels, inputs, 3, stride), nn.ReLU6()]
    for outputs, count, stride in stages:
        for index in range(count):
            blocks.append(Inverted(inputs, 6 * inputs, outputs, stride if index == 0 else 1))
            inputs = outputs
    return nn.Sequential(
        *blocks, conv_norm(inputs, last, 1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes),
    )  # fmt: skip


def mobilenet_v2(classes: int = 10) -> nn.Module:
    """A MobileNetV2 (Sandler et al. 2018) of half width whose first strides are left out."""
    stages = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (48, 3, 2), (80, 2, 2))
    return _inverted(stages, (16, 1), 320, 3, classes)


def small_mobilenet_v2(classes: int = 10, channels: int = 3) -> nn.Module:
    """One of fewer blocks that keeps the first strides: it can be trained on one core."""
    stages = ((16, 1, 1), (24, 2, 2), (40, 3, 1), (64, 2, 2))
    return _inverted(stages, (16, 2), 256, channels, classes)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        answer: Tensor = self.out(y.transpose(1, 2).reshape(batch, length, width))
        return answer


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        y: Tensor = x + self.narrow(F.gelu(self.wide(self.second(x))))
        return y


class Vit(nn.Module):
    """A vision transformer of patches of 4 × 4, width 192 as ViT-tiny, six layers."""

    def __init__(
        self, classes: int = 10, width: int = 192, layers: int = 6, channels: int = 3
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.place = nn.Parameter(torch.randn(1, 65, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, 3) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        answer: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return answer


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": resnet20,
    "mobilenet_v2": mobilenet_v2,
    "vit": Vit,
}

LARGE: dict[str, Callable[[], nn.Module]] = {"large_vit": lambda: Vit(width=768, layers=12)}
"""As large as people train on a GPU: 85 million parameters."""
