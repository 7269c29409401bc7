"""A U-Net (Ronneberger et al. 2015) that says which garment each pixel of a scene belongs to."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from benchmarks import _scenes, _task, _training
from benchmarks._networks import conv_norm
from benchmarks._scenes import Scenes
from workers.compression.targets import onnx as target

CLASSES = 11
EPOCHS, PEAK_RATE, BATCH = 3, 0.005, 16
_JUDGED_TOGETHER = 50


def _twice(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        conv_norm(inputs, outputs, 3), nn.ReLU(), conv_norm(outputs, outputs, 3), nn.ReLU()
    )


class UNet(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (8, 16, 32, 64)) -> None:
        super().__init__()
        self.down = nn.ModuleList(map(_twice, (1, *widths), widths))
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose2d(wide, less, 2, 2) for wide, less in steps)
        self.up = nn.ModuleList(_twice(2 * less, less) for _, less in steps)
        self.head = nn.Conv2d(widths[0], CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = list[Tensor]()
        for layer in self.down:
            x = layer(F.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for rise, up, before in zip(self.rise, self.up, kept[-2::-1], strict=True):
            x = up(torch.cat([before, rise(x)], 1))
        scores: Tensor = self.head(x)
        return scores


def model() -> Path:
    """Return the trained network as ONNX; it is trained once and kept."""

    def make(path: Path) -> None:
        torch.manual_seed(_task.SEED)
        network, scenes = UNet(), _scenes.trained()
        images, masks = torch.from_numpy(scenes.images), torch.from_numpy(scenes.masks)
        _training.one_cycle(
            network,
            lambda chosen: F.cross_entropy(network(images[chosen]), masks[chosen]),
            len(images),
            EPOCHS,
            PEAK_RATE,
            BATCH,
        )
        _training.export(network, path, _scenes.SIDE)

    training = EPOCHS, PEAK_RATE, BATCH
    return _task.kept("unet.onnx", make, network=UNet(), training=training, of="scenes")


def dataset() -> Path:
    """Return scenes and the classes of their pixels, as a user would upload them."""

    def make(path: Path) -> None:
        scenes, given = _scenes.trained(), _scenes.GIVEN
        np.savez_compressed(path, image=scenes.images[:given], targets=scenes.masks[:given])

    return _task.kept("scenes-masks.npz", make, scenes=_scenes.GIVEN)


def measures(path: Path) -> dict[str, float]:
    """Return the intersection over union of a file's classes on other scenes, in percent."""
    session, scenes = target.open_session(path, _task.THREADS), _judged()
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    for first in range(0, len(scenes.images), _JUDGED_TOGETHER):
        images = scenes.images[first : first + _JUDGED_TOGETHER]
        (scores,) = target.run(session, None, {"image": images})
        pairs = scenes.masks[first : first + _JUDGED_TOGETHER] * CLASSES + scores.argmax(1)
        counts += np.bincount(pairs.ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hits = counts.diagonal()
    return {"iou": 100 * float(np.mean(hits / (counts.sum(0) + counts.sum(1) - hits)))}


@cache
def _judged() -> Scenes:
    return _scenes.judged()
