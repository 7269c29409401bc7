"""A task, networks trained for it, and the engine on them as users get it: a job directory.

The task is Fashion-MNIST (Xiao et al. 2017): grey clothes of ten kinds, framed to 32 × 32. The
networks and the engine's steps see the same 4,800 images. The engine's reports judge by 1,200
others, ``tested`` by the 10,000 that are there for tests.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from app.domain.reports import Measures, Report
from benchmarks import _clothes, _engine, _training
from benchmarks._cache import CACHE
from benchmarks._mobile_networks import convnext, efficientnet, mobilenet_v3
from benchmarks._networks import Vit, resnet, small_mobilenet_v2
from workers.compression.learning.augment import augment
from workers.compression.samples.context import Samples
from workers.compression.samples.layout import Layout
from workers.compression.samples.split import split
from workers.compression.targets import onnx as target

SEED, THREADS = _engine.SEED, _engine.THREADS
SAMPLES = 6_000
AUGMENT = ("flip",)
PEAK_RATE = 0.01
_PEAK_RATES = {"vit": 0.001, "convnext": 0.002}
"""Of networks that do not learn at ``PEAK_RATE``."""

NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: resnet(1, channels=1),
    "resnet20": lambda: resnet(3, channels=1),
    "mobilenet_v2": lambda: small_mobilenet_v2(channels=1),
    "vit": lambda: Vit(width=96, layers=4, channels=1),
    "mobilenet_v3": mobilenet_v3,
    "efficientnet": efficientnet,
    "convnext": convnext,
}
"""Small enough to be trained in minutes on one core."""


@dataclass(frozen=True)
class Training:
    """Of a network before it is compressed.

    Attributes:
        epochs: passes over the images.
        images: the first so many; None for those that the engine trains on.
    """

    epochs: int
    images: int | None


ALIKE = Training(epochs=12, images=None)
"""On the images that the engine sees too."""
WELL = Training(epochs=4, images=48_000)
"""On ten times as many: a model is mostly compressed with a sample of what it was made with."""


def compress(
    model: Path,
    steps: Sequence[Mapping[str, Any]],
    keep: Path | None = None,
    seed: int = SEED,
) -> Report:
    """Run the engine on a job directory and return what it reports.

    Args:
        model: as ONNX.
        steps: as a user would ask for them.
        keep: where the compressed model is put.
        seed: of the job.

    Raises:
        SystemExit: the job ended in a problem.
    """
    result = _engine.run(model, dataset(), steps, keep, seed)
    if result.report is None:
        sys.exit(f"{steps}: {result.problem}")
    return result.report


def judged(
    model: Path, steps: Sequence[Mapping[str, Any]], seed: int = SEED
) -> tuple[Report, dict[str, float]]:
    """Run the engine; return its report, and figures with accuracies on the test images."""
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
        result = Path(scratch) / "result.onnx"
        report = compress(model, steps, result, seed)
        accuracies = {"original_accuracy": tested(model), "accuracy": tested(result)}
    return report, row(report) | accuracies


def accuracy(measures: Measures) -> float:
    """Return the share of held-out images that are named rightly, in percent."""
    assert measures.quality is not None, "the dataset has targets"
    return 100 * measures.quality.value


def row(report: Report) -> dict[str, float]:
    """Return the figures of a finished job, accuracies on the held-out images."""
    accuracies = {
        "original_accuracy": accuracy(report.baseline),
        "accuracy": accuracy(report.compressed),
    }
    return accuracies | _engine.row(report)


def show(label: str, found: Mapping[str, float]) -> None:
    """Print one line of a table, as soon as it is known."""
    print(
        f"{label:44} {found['accuracy']:6.2f} % (of {found['original_accuracy']:5.2f})"
        f" {found['size_ratio']:5.1f}x smaller {found['macs_ratio']:4.2f}x fewer MACs"
        f" {found['speedup']:5.2f}x faster ({found['latency_ms']:.3f} ms)"
        f" {found['seconds']:5.0f} s",
        flush=True,
    )


def kept(name: str, make: Callable[[Path], None], **facts: Any) -> Path:
    """Return a file of the cache, which is made once.

    Args:
        name: for people; it ends the file's name.
        make: writes the file where it is told.
        facts: what it depends on, beside the images, the seed and torch.
    """
    known = json.dumps([SEED, SAMPLES, torch.__version__, facts], sort_keys=True, default=str)
    path = CACHE / f"{hashlib.sha256(known.encode()).hexdigest()[:12]}-{name}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            make(Path(scratch) / name)
            (Path(scratch) / name).rename(path)
    return path


def dataset() -> Path:
    """Return the images and their classes, as a user would upload them."""

    def make(path: Path) -> None:
        images, targets = _clothes.framed("train")
        np.savez_compressed(path, image=images[:SAMPLES], targets=targets[:SAMPLES])

    return kept("fashion-mnist.npz", make)


def tested(model: Path) -> float:
    """Return the share of the test images that an ONNX file names rightly, in percent."""
    images, targets = _clothes.framed("t10k")
    samples = Samples({"image": images}, targets, range(len(images)), Layout(size=100))
    session = target.open_session(model, THREADS)
    right = 0
    for feeds, rows in samples.runs():
        (logits,) = target.run(session, None, feeds)
        right += int((logits.argmax(1)[: len(rows)] == targets[rows]).sum())
    return 100 * right / len(images)


def trained(name: str, training: Training = ALIKE) -> Path:
    """Return a trained network of ``NETWORKS`` as ONNX; it is trained once and kept."""
    return kept(
        f"{name}.onnx",
        lambda path: _training.export(module(name, training), path),
        network=NETWORKS[name](),
        training=_facts(name, training),
    )


def module(name: str, training: Training = ALIKE) -> nn.Module:
    """Return a trained network of ``NETWORKS``; its state is kept."""
    torch.manual_seed(SEED)
    network = NETWORKS[name]()

    def make(path: Path) -> None:
        train(network, training.epochs, _PEAK_RATES.get(name, PEAK_RATE), training.images)
        np.savez(path, **{key: each.numpy() for key, each in network.state_dict().items()})

    state = kept(f"{name}.npz", make, network=network, training=_facts(name, training))
    with np.load(state) as arrays:
        network.load_state_dict({key: torch.from_numpy(arrays[key]) for key in arrays.files})
    return network


def _facts(name: str, training: Training) -> Sequence[Any]:
    rate = _PEAK_RATES.get(name, PEAK_RATE)
    own = (training.epochs, rate, _training.WEIGHT_DECAY, _training.BATCH, AUGMENT)
    return own if training.images is None else (*own, training.images)


def _engine_sees() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the images and classes that the engine trains on."""
    with np.load(dataset()) as arrays:
        seen = split(SAMPLES, arrays["targets"], SEED).train
        return arrays["image"][seen], arrays["targets"][seen]


def train(
    network: nn.Module, epochs: int, peak_rate: float, images_seen: int | None = None
) -> None:
    """Train on images of clothes and their classes.

    Args:
        network: changed in place.
        epochs: passes over the images.
        peak_rate: the learning rate at its highest.
        images_seen: the first so many; by default those that the engine trains on.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    random = np.random.default_rng(SEED)
    arrays = _engine_sees() if images_seen is None else _clothes.framed("train")
    images, targets = (torch.from_numpy(each[:images_seen]) for each in arrays)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch: tensors only

    def loss(chosen: Tensor) -> Tensor:
        batch = augment(images[chosen], AUGMENT, random)
        return F.cross_entropy(network(batch), targets[chosen])

    _training.one_cycle(network, loss, len(images), epochs, peak_rate)
