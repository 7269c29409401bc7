"""A detector like YOLOv8 (Jocher et al. 2023) that finds clothes in scenes.

Its one output has, of each anchor, a box in pixels beside the scores of ten classes, as exports of
such networks have. What counts is F1 of the boxes after non-maximum suppression.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from benchmarks import _scenes, _task, _training
from benchmarks._networks import conv_norm
from benchmarks._scenes import MOST, SIDE, Scenes
from workers.compression.targets import onnx as target

CLASSES, BINS = 10, 8
EPOCHS, PEAK_RATE = 10, 0.005
_STRIDES = 8, 16
_RADIUS = 1.5
"""Strides within which anchors learn the garment whose centre they are near."""
_SURE, _SAME = 0.4, 0.5
"""The score above which a box counts, and the overlap above which two are the same."""
_BOXES_COUNT = 2.0
_BATCH = 50


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(conv_norm(inputs, outputs, kernel, stride), nn.SiLU())


class Split(nn.Module):
    """Half of the channels go through residual convolutions; all that comes of it is mixed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.first = _conv(inputs, outputs, 1)
        self.inner = nn.Sequential(_conv(half, half, 3), _conv(half, half, 3))
        self.last = _conv(3 * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, 1)
        answer: Tensor = self.last(torch.cat([left, right, right + self.inner(right)], 1))
        return answer


class Pooled(nn.Module):
    """Sees what is far: maxima of wider and wider surroundings (SPPF)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = _conv(width, width // 2, 1), _conv(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.first(x)]
        for _ in range(3):
            found.append(F.max_pool2d(found[-1], 3, 1, 1))
        answer: Tensor = self.last(torch.cat(found, 1))
        return answer


class Detector(nn.Module):
    places: Tensor
    strides: Tensor
    bins: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(
            _conv(1, 16, 3, 2), _conv(16, 32, 3, 2), Split(32, 32), _conv(32, 48, 3, 2)
        )
        self.fine, self.coarser = Split(48, 48), _conv(48, 80, 3, 2)
        self.coarse = nn.Sequential(Split(80, 80), Pooled(80))
        self.mixed_fine, self.down = Split(128, 48), _conv(48, 48, 3, 2)
        self.mixed_coarse = Split(128, 80)
        self.boxes = nn.ModuleList(_head(width, 4 * BINS, 1.0) for width in (48, 80))
        self.scores = nn.ModuleList(_head(width, CLASSES, -4.0) for width in (48, 80))
        places, strides = _anchors()
        self.register_buffer("places", places)
        self.register_buffer("strides", strides)
        self.register_buffer("bins", torch.arange(float(BINS)))

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return distances ``[N, 4, anchors]`` to the four sides, and scores before a sigmoid."""
        fine = self.fine(self.early(x))
        coarse = self.coarse(self.coarser(fine))
        fine = self.mixed_fine(torch.cat([F.interpolate(coarse, scale_factor=2.0), fine], 1))
        coarse = self.mixed_coarse(torch.cat([self.down(fine), coarse], 1))
        levels = fine, coarse
        sides, scores = _joined(self.boxes, levels), _joined(self.scores, levels)
        shares = sides.reshape(-1, 4, BINS, sides.shape[2]).softmax(2)
        return (shares * self.bins[:, None]).sum(2) * self.strides, scores

    def forward(self, x: Tensor) -> Tensor:
        sides, scores = self.found(x)
        before, after = self.places - sides[:, :2], self.places + sides[:, 2:]
        return torch.cat([(before + after) / 2, after - before, scores.sigmoid()], 1)


def _head(inputs: int, outputs: int, bias: float) -> nn.Module:
    last = nn.Conv2d(32, outputs, 1)
    nn.init.constant_(last.bias, bias)  # type: ignore[arg-type] # it has one
    return nn.Sequential(_conv(inputs, 32, 3), _conv(32, 32, 3), last)


def _joined(heads: nn.ModuleList, levels: tuple[Tensor, ...]) -> Tensor:
    """Return what heads say of their levels, one anchor after the other."""
    pairs = zip(heads, levels, strict=True)
    return torch.cat([head(level).flatten(2) for head, level in pairs], 2)


def _anchors() -> tuple[Tensor, Tensor]:
    """Return the centres ``[2, anchors]`` and strides ``[anchors]`` of all cells."""
    places, strides = list[Tensor](), list[Tensor]()
    for stride in _STRIDES:
        along = (torch.arange(SIDE // stride) + 0.5) * stride
        y, x = torch.meshgrid(along, along, indexing="ij")
        places.append(torch.stack([x.flatten(), y.flatten()]))
        strides.append(torch.full((len(along) ** 2,), float(stride)))
    return torch.cat(places, 1), torch.cat(strides)


def _loss(network: Detector, images: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Score anchors near a garment's centre by the overlap of their boxes, all others by 0."""
    sides, scores = network.found(images)
    places, strides = network.places, network.strides
    wanted = torch.cat([places - boxes[..., :2, None], boxes[..., 2:, None] - places], 2)
    centres = (boxes[..., :2] + boxes[..., 2:])[..., None] / 2
    far = (places - centres).abs().amax(2) / strides
    far = far.where((wanted.amin(2) > 0) & (classes >= 0)[..., None], torch.inf)
    nearest, garment = far.min(1)
    learns = nearest < _RADIUS
    target_sides = wanted.gather(1, garment[:, None, None].expand(-1, 1, 4, -1))[:, 0]
    shared = torch.minimum(sides, target_sides)
    inner = (shared[:, 0] + shared[:, 2]) * (shared[:, 1] + shared[:, 3])
    areas = [
        (each[:, 0] + each[:, 2]) * (each[:, 1] + each[:, 3]) for each in (sides, target_sides)
    ]
    overlap = inner / (areas[0] + areas[1] - inner).clamp(1e-3)
    kinds = F.one_hot(classes.gather(1, garment).clamp(0), CLASSES).transpose(1, 2)
    wanted_scores = kinds * (overlap.detach().clamp(0) * learns)[:, None]
    count = learns.sum().clamp(1)
    missed = F.binary_cross_entropy_with_logits(scores, wanted_scores, reduction="sum")
    return (missed + _BOXES_COUNT * ((1 - overlap) * learns).sum()) / count


def model() -> Path:
    """Return the trained network as ONNX; it is trained once and kept."""

    def make(path: Path) -> None:
        torch.manual_seed(_task.SEED)
        network, scenes = Detector(), _scenes.trained()
        arrays = scenes.images, scenes.boxes, scenes.classes
        images, boxes, classes = (torch.from_numpy(array) for array in arrays)
        _training.one_cycle(
            network,
            lambda chosen: _loss(network, images[chosen], boxes[chosen], classes[chosen]),
            len(images),
            EPOCHS,
            PEAK_RATE,
        )
        _training.export(network, path, SIDE, "boxes")

    training = EPOCHS, PEAK_RATE, MOST
    return _task.kept("detector.onnx", make, network=Detector(), training=training, of="scenes")


def dataset() -> Path:
    """Return scenes, as a user would upload them: the service has no metric of boxes."""

    def make(path: Path) -> None:
        np.savez_compressed(path, image=_scenes.trained().images[: _scenes.GIVEN])

    return _task.kept("scenes.npz", make, scenes=_scenes.GIVEN)


def measures(path: Path) -> dict[str, float]:
    """Return F1 of the boxes that a file finds in other scenes, in percent."""
    session, scenes = target.open_session(path, _task.THREADS), _judged()
    right = found = 0
    for first in range(0, len(scenes.images), _BATCH):
        (answers,) = target.run(session, None, {"image": scenes.images[first : first + _BATCH]})
        for scene, answer in enumerate(answers, first):
            kept = _apart(answer)
            found += len(kept)
            right += _right(kept, scenes.boxes[scene], scenes.classes[scene])
    wanted = int((scenes.classes >= 0).sum())
    return {"f1": 100 * 2 * right / (found + wanted)}


def _apart(answer: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], int]]:
    """Return boxes and classes, the surest first, without those that another one covers."""
    scores, classes = answer[4:].max(0), answer[4:].argmax(0)
    centres, sizes = answer[:2], answer[2:4]
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2]).T
    kept = list[tuple[NDArray[np.float32], int]]()
    for anchor in np.argsort(-scores, kind="stable"):
        if scores[anchor] < _SURE:
            break
        if all(_overlap(boxes[anchor], box) <= _SAME for box, _ in kept):
            kept.append((boxes[anchor], int(classes[anchor])))
    return kept


def _right(
    kept: list[tuple[NDArray[np.float32], int]],
    boxes: NDArray[np.float32],
    classes: NDArray[np.int64],
) -> int:
    """Return how many garments were found, each of them once."""
    left = {index for index, kind in enumerate(classes) if kind >= 0}
    for box, kind in kept:
        hits = [
            index
            for index in left
            if classes[index] == kind and _overlap(box, boxes[index]) > _SAME
        ]
        left -= set(hits[:1])
    return int((classes >= 0).sum()) - len(left)


def _overlap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return intersection over union."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return shared / max(sum(areas) - shared, 1e-6)


@cache
def _judged() -> Scenes:
    return _scenes.judged()
