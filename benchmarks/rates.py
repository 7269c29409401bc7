"""The learning rate that recovery finds, beside fixed ones, on four networks of three tasks.

Each network is trained, loses half of its multiply-accumulates by pruning, and is trained again by
``recover`` with normalisation lent to it: at the optimizer's usual rate, at 10 times as much, and
at the rate that it finds by itself, on the samples that it sets aside. The test samples
are seen by none of them; they judge here, in the end. Three seeds, of the network's own training
and of the recovery.

Names of networks, and seeds, on the command line choose among them.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from app.domain.steps import Prune
from app.domain.steps.recover import Recover
from benchmarks._classes import Data
from benchmarks._report import Bar, conclude, seeds_asked
from benchmarks._small import (
    THREADS,
    Letters,
    Subject,
    context,
    inverted_residual,
    plain,
    residual,
    tested,
    trained,
)
from benchmarks._training import BATCH
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load, save
from workers.compression.learning.recovery import recover
from workers.compression.methods.prune.channels import prune_channels

SEEDS = (0, 1, 2)
EPOCHS = 14
"""Of the recovery: 406 steps."""
USUAL = 1e-3
FIXED = {"usual": USUAL, "10 times": USUAL * 10}
FOUND = "found"

SUBJECTS: Mapping[str, Subject] = {
    "residual, images": Subject("images", residual),
    "inverted residual, images": Subject("images", inverted_residual),
    "1-d convolutions, text": Subject("text", Letters),
    "plain, audio": Subject("audio", plain),
}


@dataclass(frozen=True)
class Row:
    """Accuracies of one network with one seed, in percent."""

    network: str
    seed: int
    accuracies: Mapping[str, float]


def main() -> None:
    torch.set_num_threads(THREADS)
    seeds = seeds_asked(SEEDS)
    rows = list[Row]()
    for name in [subject for subject in SUBJECTS if subject in sys.argv] or SUBJECTS:
        subject = SUBJECTS[name]
        data = subject.data
        for seed in seeds:
            original = trained(name, subject, seed)
            with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
                cut = pruned(original, data, seed, Path(scratch))
                row = {"original": tested(load(original), data), "cut": tested(load(cut), data)}
                for label, rate in (*FIXED.items(), (FOUND, None)):
                    row[label] = recovered(original, cut, data, seed, rate)
            rows.append(Row(name, seed, row))
            show(f"{name}, seed {seed}", row)
    samples = [asdict(row) for row in rows]
    conclude("rates", compared(rows), seeds=list(seeds), epochs=EPOCHS, rows=samples)


def compared(rows: Sequence[Row]) -> list[Bar]:
    """Print the means of the seeds for each network, and compare the found rate with the others."""
    bars = list[Bar]()
    print("means of the seeds")
    for label in dict.fromkeys(row.network for row in rows):
        of_network = [row.accuracies for row in rows if row.network == label]
        means = {
            name: float(np.mean([accuracies[name] for accuracies in of_network]))
            for name in of_network[0]
        }
        show(label, means)
        gap = means[FOUND] - means["10 times"]
        bars.append(Bar(f"{label}: found, above 10 times", "points", gap, -0.3, "at least"))
        gap = means[FOUND] - means["usual"]
        bars.append(Bar(f"{label}: found, above the usual", "points", gap, -0.3, "at least"))
    return bars


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


def show(label: str, row: Mapping[str, float]) -> None:
    print(f"{label:42}", *(f"{name} {value:6.2f}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
