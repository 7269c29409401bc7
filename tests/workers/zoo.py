"""Small networks of every kind that people upload, exported once a session.

module("vit")              the source, seeded, in evaluation mode
feeds("vit", 2)            random inputs by name, two samples
path("vit")                what torch.onnx.export makes of it, batch and lengths dynamic
graph("vit")               that in normal form, a fresh copy
"""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.graph.load import load
from workers.compression.graph.rewrites import normalize
from workers.compression.graph.trials import find_trials


@dataclass(frozen=True)
class Net:
    """How to make a network and its inputs."""

    make: Callable[[], nn.Module]
    inputs: dict[str, tuple[int, ...]]
    """Shapes without the batch."""
    length: str | None = None
    """The name of a dynamic second dimension of all inputs."""
    below: int | None = None
    """Inputs are integers below this; floats when None."""


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24), nn.GELU(), nn.Linear(24, 10)
    )


def _conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _conv(inputs, outputs, 3, stride), _conv(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.short(x))


def residual() -> nn.Module:
    return nn.Sequential(
        _conv(3, 16), nn.ReLU(), _Residual(16, 16, 1), _Residual(16, 32, 2), nn.MaxPool2d(2),
        _Residual(32, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        wide = 4 * inputs
        self.body = nn.Sequential(
            _conv(inputs, wide, 1), act(),
            _conv(wide, wide, 3, stride, wide), act(),
            _conv(wide, outputs, 1),
        )  # fmt: skip
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def inverted_residual() -> nn.Module:
    return nn.Sequential(
        _conv(3, 8, 3, 2), nn.ReLU6(),
        _Inverted(8, 8, 1, nn.ReLU6), _Inverted(8, 16, 2, nn.Hardswish),
        _Inverted(16, 16, 1, nn.Hardswish), _conv(16, 32, 1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class _Dense(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


def dense_concat() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), _Dense(8, 8), _Dense(16, 8), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 12, 1), nn.AvgPool2d(2), _Dense(12, 8), _Dense(20, 8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(28, 10),
    )  # fmt: skip


class _ConvNext(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), _ConvNext(16), _ConvNext(16), nn.Conv2d(16, 24, 2, 2),
        _ConvNext(24), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 10),
    )  # fmt: skip


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, mask)
        answer: Tensor = self.out(y.transpose(1, 2).reshape(batch, length, width))
        return answer


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, *, first: bool) -> None:
        super().__init__()
        self.attention, self.first = _Attention(width, heads), first
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.first:
            x = x + self.attention(self.norms[0](x), mask)
            longer: Tensor = x + self.narrow(F.gelu(self.wide(self.norms[1](x))))
            return longer
        x = self.norms[0](x + self.attention(x, mask))
        answer: Tensor = self.norms[1](x + self.narrow(F.gelu(self.wide(x))))
        return answer


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 32) * 0.1)
        self.place = nn.Parameter(torch.randn(1, 17, 32) * 0.1)
        self.blocks = nn.ModuleList(_Block(32, 4, first=True) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        for block in self.blocks:
            x = block(x)
        answer: Tensor = self.head(self.norm(x)[:, 0])
        return answer


class Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(100, 32), nn.Embedding(64, 32)
        self.norm = nn.LayerNorm(32)
        self.blocks = nn.ModuleList(_Block(32, 4, first=False) for _ in range(2))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.words(input_ids) + self.places(places))
        mask = (1 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        for block in self.blocks:
            x = block(x, mask)
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return F.normalize(mean)


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = _conv(3, 8), _conv(8, 16, 3, 2)
        self.bottom, self.up = _conv(16, 16), _conv(24, 8)
        self.grow, self.head = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = F.relu(self.first(image))
        coarse = F.relu(self.bottom(F.relu(self.down(fine))))
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear")
        x = F.relu(self.up(torch.cat([fine, coarse], 1)))
        return torch.sigmoid(self.head(F.leaky_relu(self.grow(x))))


NETS: dict[str, Net] = {
    "mlp": Net(mlp, {"x": (16,)}),
    "residual": Net(residual, {"image": (3, 16, 16)}),
    "inverted_residual": Net(inverted_residual, {"image": (3, 16, 16)}),
    "dense_concat": Net(dense_concat, {"image": (3, 16, 16)}),
    "convnext": Net(convnext, {"image": (3, 16, 16)}),
    "vit": Net(Vit, {"image": (3, 16, 16)}),
    "bert": Net(Bert, {"input_ids": (12,), "attention_mask": (12,)}, length="length", below=100),
    "encoder_decoder": Net(EncoderDecoder, {"image": (3, 16, 16)}),
}


@cache
def _module(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NETS[name].make()
        for each in net.modules():
            # as if trained: exporters merge weights that are all ones or zeros
            if isinstance(each, nn.BatchNorm2d | nn.LayerNorm):
                nn.init.uniform_(each.weight, 0.5, 1.5)
                nn.init.normal_(each.bias, std=0.2)
            if isinstance(each, nn.BatchNorm2d):
                nn.init.normal_(each.running_mean, std=0.2)  # type: ignore[arg-type]
                nn.init.uniform_(each.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return net.eval()


def module(name: str) -> nn.Module:
    """Return the source of a network, the same weights each time, in evaluation mode."""
    return _module(name)


def feeds(name: str, batch: int = 2, seed: int = 0, length: int | None = None) -> dict[str, Tensor]:
    """Return random inputs; ``length`` replaces a dynamic second dimension."""
    net, generator = NETS[name], torch.Generator().manual_seed(seed)
    given = {}
    for key, shape in net.inputs.items():
        size = (batch, *(shape if length is None else (length, *shape[1:])))
        if key == "attention_mask":
            given[key] = torch.ones(size, dtype=torch.int64)
            given[key][0, size[1] * 3 // 4 :] = 0
        elif net.below is not None:
            given[key] = torch.randint(net.below, size, generator=generator)
        else:
            given[key] = torch.randn(size, generator=generator)
    return given


_DIRECTORY = tempfile.TemporaryDirectory(prefix="zoo-")


@cache
def path(name: str) -> Path:
    """Return the exported network's file; do not change it."""
    net, file = NETS[name], Path(_DIRECTORY.name) / f"{name}.onnx"
    axes = {0: "batch"} | ({} if net.length is None else {1: net.length})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module(name), tuple(feeds(name).values()), file, input_names=list(net.inputs),
            output_names=["output"], dynamic_axes=dict.fromkeys(net.inputs, axes),
            dynamo=False, opset_version=20,
        )  # fmt: skip
    return file


@cache
def _graph(name: str) -> ir.Model:
    reference = load(path(name))
    trials = find_trials(reference, path(name))
    normal, _ = normalize(path(name), trials)
    return normal


def graph(name: str) -> ir.Model:
    """Return the network in normal form, a fresh copy each time."""
    return _graph(name).clone()
