"""Small networks of several kinds, trained on scikit-learn's digits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks._networks import Block


def cnn() -> nn.Module:
    """Return a network of ordinary convolutions with normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def depthwise() -> nn.Module:
    """Return a network of depthwise convolutions, as MobileNet has them."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU6(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.ReLU6(),
        nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


class Vit(nn.Module):
    """Sixteen patches of two by two pixels, and one layer of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.place = nn.Conv2d(1, 32, 2, 2), nn.Parameter(torch.zeros(1, 16, 32))
        self.block, self.head = Block(32, 4), nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of ten classes."""
        x = self.patch(image).flatten(2).transpose(1, 2) + self.place
        answer: Tensor = self.head(self.block(x).mean(1))
        return answer


class Gru(nn.Module):
    """A GRU that reads an image line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of ten classes."""
        answer: Tensor = self.head(self.reader(image.squeeze(1))[0][:, -1])
        return answer


class Halves(nn.Module):
    """A network with two inputs: the upper and the lower half of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.upper, self.lower = (nn.Conv2d(1, 16, 3, padding=1) for _ in range(2))
        self.body, self.head = nn.Conv2d(32, 32, 3, padding=1), nn.Linear(32, 10)

    def forward(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Return the scores of ten classes."""
        both = torch.cat([self.upper(upper), self.lower(lower)], 1).relu()
        answer: Tensor = self.head(self.body(both).relu().mean((2, 3)))
        return answer


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cnn": cnn, "depthwise": depthwise, "vit": Vit, "gru": Gru, "two inputs": Halves,
}  # fmt: skip


def feeds(network: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the digits as a network reads them, by the name of the input."""
    images, _ = digits()
    if network == "two inputs":
        return {"upper": images[:, :, :4], "lower": images[:, :, 4:]}
    return {"image": images}


def example(network: str) -> tuple[Tensor, ...]:
    """Return two samples to export a network with."""
    return tuple(torch.from_numpy(array[:2].copy()) for array in feeds(network).values())


def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the images ``[n, 1, 8, 8]`` in float32, and their classes."""
    loaded: Any = load_digits()
    return (loaded.images[:, None] / 16).astype(np.float32), loaded.target.astype(np.int64)


def trained(network: str) -> nn.Module:
    """Train a network for some epochs, the same each time."""
    torch.manual_seed(0)
    return fitted(NETWORKS[network](), network)


def fitted(module: nn.Module, network: str) -> nn.Module:
    """Train a module that reads what a network reads, in place, and return it."""
    arrays = [torch.from_numpy(array.copy()) for array in feeds(network).values()]
    classes = torch.from_numpy(digits()[1])
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(6):
        for rows in torch.tensor_split(torch.randperm(len(classes)), 14):
            optimizer.zero_grad()
            scores = module(*(array[rows] for array in arrays))
            torch.autograd.backward(nn.functional.cross_entropy(scores, classes[rows]))
            optimizer.step()
    return module.eval()
