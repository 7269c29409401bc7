"""Whole channels taken away and the rest trained, beside Torch-Pruning on the same images.

Both sides start from the same trained network and see the same images in batches of the same size,
changed at random in the same ways, for the same number of epochs, on one thread. A network has been
trained on these images or, where that is said, on ten times as many. The engine does it as users
ask for it. Torch-Pruning trains on labels, with AdamW and one cycle of the learning rate, whose
peak is the one of two that does better on the test images, at the first of ``TIMES``. All files are
judged on these images and timed by turns in onnxruntime.

Torch-Pruning is needed: ``pip install -e '.[bench]'``. Finished files are kept in the cache, under
what they depend on (the engine's code included), so that a run that was stopped can go on. Names of
subjects on the command line choose among them.
"""

import functools
import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import workers.compression
from benchmarks import _task, _training
from benchmarks._report import Bar, conclude
from benchmarks._task import ALIKE, WELL, Training
from benchmarks._torch_pruning import PRUNERS, cut
from workers.compression.measure import latency, size
from workers.compression.samples.context import Samples

TIMES = (2.1, 3.0)
"""The MACs before over those after."""
LATENCIES = (0.4, 0.55)
"""Shares of the time that are taken away."""
EPOCHS = 8
RATES = (0.003, 0.01)

Row = Mapping[str, float]


@dataclass(frozen=True)
class Subject:
    """A trained network, as its source and as ONNX."""

    network: str
    training: Training

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return _task.trained(self.network, self.training)

    @property
    def module(self) -> nn.Module:
        """The network in torch."""
        return _task.module(self.network, self.training)


SUBJECTS: Mapping[str, Subject] = {
    "resnet20": Subject("resnet20", ALIKE),
    "mobilenet_v2": Subject("mobilenet_v2", ALIKE),
    "resnet20, well trained": Subject("resnet20", WELL),
    "mobilenet_v2, well trained": Subject("mobilenet_v2", WELL),
}


def main() -> None:
    bars, jobs = list[Bar](), dict[str, dict[str, Row]]()
    rates = dict[str, float]()
    for name in [each for each in SUBJECTS if each in sys.argv] or SUBJECTS:
        subject = SUBJECTS[name]
        rate = max(RATES, key=lambda rate: tested(theirs(subject, "group", TIMES[0], rate)))
        files = {"original": subject.path}
        for times in TIMES:
            for pruner in PRUNERS:
                files[_label(pruner, times)] = theirs(subject, pruner, times, rate)
            files[_label("ours", times)] = ours(subject, 1 - 1 / times, "macs")
        for share in LATENCIES:
            files[f"ours, {share:.0%} less time"] = ours(subject, share, "latency")
        rates[name] = rate
        jobs[name] = rows = figures(files)
        print(f"{name}, {EPOCHS} epochs; theirs at a rate of {rate}")
        for label, each in rows.items():
            show(label, each)
        for times in TIMES:
            bars += compare(name, rows, times)
    facts = {"epochs": EPOCHS, "images": _task.SAMPLES, "their_rates": rates}
    conclude("prune", bars, seed=_task.SEED, **facts, jobs=jobs)


def theirs(subject: Subject, pruner: str, times: float, rate: float) -> Path:
    """Return what Torch-Pruning makes of a network, with so many times fewer MACs."""

    def make(path: Path) -> None:
        pruned = cut(subject.module, pruner, times)
        _task.train(pruned, EPOCHS, rate)
        _training.export(pruned, path)

    return _finished(subject, f"{pruner} {times} {rate}", make, _training.BATCH, _task.AUGMENT)


def ours(subject: Subject, ratio: float, of: str) -> Path:
    """Return what the engine makes of a network."""
    recover: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": _training.BATCH,
        "augment": list(_task.AUGMENT),
    }
    step = {"method": "prune", "ratio": ratio, "of": of, "recover": recover}

    def make(path: Path) -> None:
        _task.compress(subject.path, [step], keep=path)

    return _finished(subject, f"ours {ratio:.3f} {of}", make, step, _engine())


def _finished(subject: Subject, label: str, make: Callable[[Path], None], *facts: Any) -> Path:
    began = time.monotonic()
    start = hashlib.sha256(subject.path.read_bytes()).hexdigest()
    path = _task.kept(
        f"{subject.network} {label}.onnx", make, start=start, epochs=EPOCHS, facts=facts
    )
    print(f"{path.name}: {tested(path):.2f} %, {time.monotonic() - began:.0f} s", flush=True)
    return path


@functools.cache
def _engine() -> str:
    """Return what stands for the engine's code."""
    files = sorted(Path(workers.compression.__path__[0]).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@functools.cache
def tested(path: Path) -> float:
    return _task.tested(path)


def figures(files: Mapping[str, Path]) -> dict[str, Row]:
    """Measure models, the first of which is the original; their times by turns."""
    image = Samples({"image": np.zeros((1, 1, 32, 32), np.float32)}, None, [0])
    sizes = [size.measure(path, {"batch": 1}, None) for path in files.values()]
    spreads, _ = latency.measure(list(files.values()), image, _task.THREADS)
    return {
        label: {
            "accuracy": tested(files[label]),
            "macs_ratio": sizes[0].macs / own.macs,
            "size_ratio": sizes[0].size_bytes / own.size_bytes,
            "speedup": spreads[0].median / spread.median,
            "latency_ms": spread.median,
        }
        for label, own, spread in zip(files, sizes, spreads, strict=True)
    }


def compare(subject: str, rows: Mapping[str, Row], times: float) -> Sequence[Bar]:
    """Hold the engine's models against the most accurate of Torch-Pruning's."""
    best = max((rows[_label(pruner, times)] for pruner in PRUNERS), key=lambda row: row["accuracy"])
    own = rows[_label("ours", times)]
    equal = [
        row["speedup"]
        for label, row in rows.items()
        if label.endswith("less time") and row["accuracy"] >= best["accuracy"]
    ]
    name = f"{subject}, {times:g}x fewer MACs"
    return [
        Bar(f"{name}: above theirs", "points", own["accuracy"] - best["accuracy"], 0, "at least"),
        Bar(
            f"{name}: as few", "of theirs", own["macs_ratio"] / best["macs_ratio"], 0.99, "at least"
        ),
        Bar(
            f"{name}: speed-up, as accurate",
            "of theirs",
            max(equal, default=0.0) / best["speedup"],
            1.3,
            "at least",
        ),
    ]


def show(label: str, row: Row) -> None:
    print(
        f"  {label:24} {row['accuracy']:6.2f} % {row['macs_ratio']:5.2f}x fewer MACs"
        f" {row['size_ratio']:5.2f}x smaller {row['speedup']:5.2f}x faster"
        f" ({row['latency_ms']:.4f} ms)",
        flush=True,
    )


def _label(whose: str, times: float) -> str:
    return f"{whose}, {times:g}x fewer MACs"


if __name__ == "__main__":
    main()
