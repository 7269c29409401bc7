"""The learning rate that recovery finds, beside fixed ones, on four networks of three tasks.

Each network is trained, loses half of its multiply-accumulates by pruning, and is trained again by
``recover`` with normalisation lent to it: at the optimizer's usual rate, at 10 times as much, and
at the rate that it finds by itself, on the samples that it sets aside. The test samples
are seen by none of them; they judge here, in the end. Three seeds, of the network's own training
and of the recovery.

Names of networks on the command line choose among them.
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from app.domain.steps import Prune
from app.domain.steps.recover import Recover
from benchmarks._cache import CACHE
from benchmarks._classes import ALPHABET, TASKS, Data
from benchmarks._networks import Inverted, Residual, conv_norm
from benchmarks._report import Bar, conclude
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load, save
from workers.compression.intake.inspect import inspect_model
from workers.compression.learning.recovery import recover
from workers.compression.methods.prune.channels import prune_channels
from workers.compression.samples.context import Context, Samples
from workers.compression.samples.layout import Layout
from workers.compression.targets import onnx as target

SEEDS = (0, 1, 2)
THREADS = 1
BATCH = 64
EPOCHS = 14
"""Of the recovery: 406 steps."""
USUAL = 1e-3
FIXED = {"usual": USUAL, "10 times": USUAL * 10}
FOUND = "found"


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


def _residual() -> nn.Module:
    return nn.Sequential(
        conv_norm(1, 12, 3), nn.ReLU(), Residual(12, 12, 1), Residual(12, 24, 2),
        Residual(24, 48, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip


def _mobile() -> nn.Module:
    return nn.Sequential(
        conv_norm(1, 12, 3), nn.ReLU6(), Inverted(12, 16, 2, 4), Inverted(16, 16, 1, 4),
        Inverted(16, 32, 2, 4), conv_norm(32, 96, 1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip


def _plain() -> nn.Module:
    layers = [
        nn.Sequential(conv_norm(inputs, outputs, 3, 2), nn.ReLU())
        for inputs, outputs in ((1, 16), (16, 32), (32, 48))
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4))


@dataclass(frozen=True)
class Subject:
    """A network and what it is for."""

    task: str
    make: Callable[[], nn.Module]
    epochs: int = 10
    """Of its own training."""


SUBJECTS: Mapping[str, Subject] = {
    "residual, images": Subject("images", _residual),
    "inverted residual, images": Subject("images", _mobile),
    "1-d convolutions, text": Subject("text", Letters),
    "plain, audio": Subject("audio", _plain),
}


def main() -> None:
    torch.set_num_threads(THREADS)
    table, rows = dict[str, dict[str, list[float]]](), list[Mapping[str, object]]()
    for name in [each for each in SUBJECTS if each in sys.argv] or SUBJECTS:
        subject = SUBJECTS[name]
        data = TASKS[subject.task]()
        for seed in SEEDS:
            original = trained(name, subject, data, seed)
            with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
                cut = pruned(original, data, seed, Path(scratch))
                row = {"original": tested(load(original), data), "cut": tested(load(cut), data)}
                for label, rate in (*FIXED.items(), (FOUND, None)):
                    row[label] = recovered(original, cut, data, seed, rate)
            rows.append({"network": name, "seed": seed} | row)
            show(f"{name}, seed {seed}", row)
            for label, value in row.items():
                table.setdefault(name, {}).setdefault(label, []).append(value)
    print("means of the seeds")
    bars = list[Bar]()
    for label, columns in table.items():
        means = {name: float(np.mean(values)) for name, values in columns.items()}
        show(label, means)
        gap = means[FOUND] - means["10 times"]
        bars.append(Bar(f"{label}: found, above 10 times", "points", gap, -0.3, "at least"))
        gap = means[FOUND] - means["usual"]
        bars.append(Bar(f"{label}: found, above the usual", "points", gap, -0.3, "at least"))
    conclude("rates", bars, seeds=list(SEEDS), epochs=EPOCHS, rows=rows)


def trained(name: str, subject: Subject, data: Data, seed: int) -> Path:
    """Return a trained network in normal form; it is trained once and kept."""
    torch.manual_seed(seed)
    network = subject.make()
    facts = json.dumps([str(network), subject.epochs, seed, data.train[0].shape, torch.__version__])
    known = hashlib.sha256(facts.encode()).hexdigest()[:12]
    folder = CACHE / f"{known}-{name.replace(' ', '-').replace(',', '')}"
    if not (folder / "model.onnx").exists():
        folder.mkdir(parents=True, exist_ok=True)
        train(network, subject.epochs, data)
        first = torch.from_numpy(data.train[0][:2])
        torch.onnx.export(
            network.eval(), (first,), folder / "upload", input_names=["x"], output_names=["y"],
            dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip
        inspect_model(folder / "upload", folder)
    return folder / "model.onnx"


def train(network: nn.Module, epochs: int, data: Data) -> None:
    """Train with AdamW and one cycle of the rate, on labels."""
    inputs, classes = (torch.from_numpy(each) for each in data.train)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = len(inputs) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 10 * USUAL, epochs * steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs))[: steps * BATCH].view(-1, BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(network(inputs[rows]), classes[rows]))
            optimizer.step()
            schedule.step()


def context(original: Path, data: Data, seed: int) -> Context:
    inputs, classes = data.train
    samples = Samples({"x": inputs}, classes, range(len(inputs)))
    return Context(samples, seed, THREADS, example={"x": inputs[:1]}, original=original)


def pruned(original: Path, data: Data, seed: int, folder: Path) -> Path:
    """Return the network without half of its multiply-accumulates."""
    model = load(original)
    name_nodes(model)
    wish = context(original, data, seed)
    smaller, _, _ = prune_channels(model, Prune(ratio=0.5), wish, lambda _done: None)
    save(smaller, folder / "cut.onnx")
    return folder / "cut.onnx"


def recovered(original: Path, cut: Path, data: Data, seed: int, rate: float | None) -> float:
    """Train the cut network and return its accuracy on the test samples, in percent."""
    began = time.monotonic()
    wish = Recover(epochs=EPOCHS, batch_size=BATCH, learning_rate=rate)
    model = recover(load(cut), wish, context(original, data, seed), lambda _done: None)
    accuracy = tested(model, data)
    print(f"  at {rate}: {accuracy:.2f} %, {time.monotonic() - began:.0f} s", flush=True)
    return accuracy


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


def show(label: str, row: Mapping[str, float]) -> None:
    print(f"{label:42}", *(f"{name} {value:6.2f}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
