"""Small networks for the three tasks of classes, trained once and kept."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from app.domain.steps.recover import Change
from benchmarks import _training
from benchmarks._cache import CACHE
from benchmarks._classes import ALPHABET, TASKS, Data
from benchmarks._networks import Inverted, Residual, conv_norm
from workers.compression.graph.load import save
from workers.compression.intake.inspect import inspect_model
from workers.compression.learning.augment import augment
from workers.compression.samples.context import Context, Samples
from workers.compression.samples.layout import Layout
from workers.compression.targets import onnx as target

THREADS = 1
PEAK_RATE = 1e-2


class Letters(nn.Module):
    """Convolutions over the characters of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(ALPHABET), 16)
        widths = ((16, 32), (32, 64), (64, 64))
        self.layers = nn.Sequential(*(
            nn.Sequential(
                nn.Conv1d(inputs, outputs, 5, 2, 2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()
            )
            for inputs, outputs in widths
        ))  # fmt: skip
        self.head = nn.Linear(64, 3)

    def forward(self, text: Tensor) -> Tensor:
        """Return the scores of three classes for codes ``[N, letters]``."""
        x = self.layers(self.letters(text).transpose(1, 2))
        answer: Tensor = self.head(x.mean(2))
        return answer


def residual() -> nn.Module:
    return nn.Sequential(
        conv_norm(1, 12, 3), nn.ReLU(), Residual(12, 12, 1), Residual(12, 24, 2),
        Residual(24, 48, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip


def inverted_residual() -> nn.Module:
    return nn.Sequential(
        conv_norm(1, 12, 3), nn.ReLU6(), Inverted(12, 48, 16, 2), Inverted(16, 64, 16, 1),
        Inverted(16, 64, 32, 2), conv_norm(32, 96, 1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip


def plain() -> nn.Module:
    layers = [
        nn.Sequential(conv_norm(inputs, outputs, 3, 2), nn.ReLU())
        for inputs, outputs in ((1, 16), (16, 32), (32, 48))
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4))


@dataclass(frozen=True)
class Subject:
    """A network, the task that it is trained for, and how.

    Attributes:
        task: the name of the task.
        make: returns the untrained network.
        epochs: the passes over the samples.
        peak_rate: the highest learning rate.
        augmentation: the random changes of pictures.
    """

    task: str
    make: Callable[[], nn.Module]
    epochs: int = 10
    peak_rate: float = PEAK_RATE
    augmentation: tuple[Change, ...] = ()

    @property
    def data(self) -> Data:
        """The samples of the task."""
        return TASKS[self.task]()


def trained(name: str, subject: Subject, seed: int) -> Path:
    """Return a trained network in normal form; it is trained once and kept."""
    data = subject.data
    torch.manual_seed(seed)
    network = subject.make()
    rate = [] if subject.peak_rate == PEAK_RATE else [subject.peak_rate]
    training = [subject.epochs, *rate, seed, data.train[0].shape, torch.__version__]
    facts = json.dumps([str(network), *training, *subject.augmentation])
    digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
    folder = CACHE / f"{digest}-{name.replace(' ', '-').replace(',', '')}"
    if not (folder / "model.onnx").exists():
        folder.mkdir(parents=True, exist_ok=True)
        train(network, subject)
        write(network, data, folder)
    return folder / "model.onnx"


def write(network: nn.Module, data: Data, folder: Path) -> None:
    """Write a network as ``model.onnx`` in normal form, with a dynamic batch."""
    first = torch.from_numpy(data.train[0][:2])
    torch.onnx.export(
        network.eval(), (first,), folder / "upload", input_names=["x"], output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, external_data=False,
        verbose=False,
    )  # fmt: skip
    inspect_model(folder / "upload", folder)


def train(network: nn.Module, subject: Subject) -> None:
    """Train on labels, with AdamW and one cycle of the learning rate."""
    data, epochs, augmentation = subject.data, subject.epochs, subject.augmentation
    random = np.random.default_rng(0)
    inputs, classes = (torch.from_numpy(array) for array in data.train)

    def loss(rows: Tensor) -> Tensor:
        batch = augment(inputs[rows], augmentation, random) if augmentation else inputs[rows]
        return F.cross_entropy(network(batch), classes[rows])

    _training.one_cycle(network, loss, len(inputs), epochs, subject.peak_rate)


def context(original: Path, data: Data, seed: int) -> Context:
    inputs, classes = data.train
    samples = Samples({"x": inputs}, classes, range(len(inputs)))
    return Context(samples, seed, THREADS, example={"x": inputs[:1]}, original=original)


def tested(model: ir.Model, data: Data) -> float:
    """Return the share of the test samples that a graph names rightly, in percent."""
    inputs, classes = data.test
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        save(model, path)
        session = target.open_session(path, THREADS)
    right = 0
    samples = Samples({"x": inputs}, classes, range(len(inputs)), Layout(size=100))
    for feeds, rows in samples.runs():
        (scores,) = target.run(session, None, feeds)
        right += int((scores.argmax(1)[: len(rows)] == classes[rows]).sum())
    return 100 * right / len(classes)
