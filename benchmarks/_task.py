"""A task, networks trained for it, and the engine on them as users get it: a job directory.

The task is Fashion-MNIST (Xiao et al. 2017): grey clothes of ten kinds, framed to 32 × 32. The
networks and the engine's steps see the same 4,000 images; 1,000 others judge.
"""

import gzip
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from app.domain.directory import DATASET, ORDER, RESULT, UPLOAD, Result
from app.domain.reports import Measures, Report
from benchmarks._networks import resnet
from workers.compression.__main__ import main as engine
from workers.compression.intake.split import split

SEED = 0
SAMPLES = 5_000
THREADS = 1
_EPOCHS, _BATCH, _PEAK_RATE = 7, 64, 0.01

_PACKAGED = Path("/usr/share/datasets/fashion-mnist")
_CACHE = Path(os.environ.get("PLANISH_BENCH_CACHE", Path.home() / ".cache/planish-bench"))

NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"resnet8": lambda: resnet(1, channels=1)}
"""Small enough to be trained in a minute on one core."""


def compress(model: Path, steps: Sequence[Mapping[str, Any]]) -> Report:
    """Run the engine on a job directory and return what it reports.

    Raises:
        SystemExit: the job ended in a problem.
    """
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as name:
        directory = Path(name)
        (directory / UPLOAD).symlink_to(model)
        (directory / DATASET).symlink_to(dataset())
        order = {"kind": "compress", "steps": steps, "seed": SEED, "threads": THREADS}
        (directory / ORDER).write_text(json.dumps(order))
        engine(directory)
        result = Result.model_validate_json((directory / RESULT).read_bytes())
    if result.report is None:
        sys.exit(f"{steps}: {result.problem}")
    return result.report


def accuracy(measures: Measures) -> float:
    """Return the share of held-out images that are named rightly, in percent."""
    assert measures.quality is not None, "the dataset has targets"
    return 100 * measures.quality.value


def row(report: Report) -> dict[str, float]:
    """Return the figures of a finished job, those of its model relative to the original's."""
    before, after = report.baseline, report.compressed
    latency = report.evaluation.latency
    assert latency is not None, "the runtime runs it"
    return {
        "original_accuracy": accuracy(before),
        "accuracy": accuracy(after),
        "size_ratio": before.size_bytes / after.size_bytes,
        "macs_ratio": before.macs / after.macs,
        "speedup": latency.speedup,
        "latency_ms": latency.compressed.median,
        "original_latency_ms": latency.original.median,
        "seconds": sum(step.seconds for step in report.step_reports),
    }


def show(label: str, found: Mapping[str, float]) -> None:
    """Print one line of a table, as soon as it is known."""
    print(
        f"{label:44} {found['accuracy']:6.2f} % (of {found['original_accuracy']:5.2f})"
        f" {found['size_ratio']:5.1f}x smaller {found['macs_ratio']:4.2f}x fewer MACs"
        f" {found['speedup']:5.2f}x faster ({found['latency_ms']:.3f} ms)"
        f" {found['seconds']:5.0f} s",
        flush=True,
    )


def dataset() -> Path:
    """Return the images and their classes, as a user would upload them."""
    path = _CACHE / "fashion-mnist.npz"
    if not path.exists():
        images, targets = _read("images-idx3", 16), _read("labels-idx1", 8)
        framed = np.pad(images.reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2)))
        _CACHE.mkdir(parents=True, exist_ok=True)
        scaled = framed[:SAMPLES].astype(np.float32) / 255
        np.savez_compressed(path, image=scaled, targets=targets[:SAMPLES].astype(np.int64))
    return path


def _read(kind: str, header: int) -> NDArray[np.uint8]:
    """Return the bytes behind the header of an IDX file."""
    for directory in (_CACHE / "fashion-mnist", _PACKAGED):
        path = directory / f"train-{kind}-ubyte.gz"
        if path.exists():
            return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
    sys.exit(
        f"The images are missing: install Debian's package dataset-fashion-mnist, or put its files"
        f" into {_CACHE / 'fashion-mnist'}."
    )


def trained(name: str) -> Path:
    """Return a trained network of ``NETWORKS`` as ONNX; it is trained once and kept."""
    path = _CACHE / f"{name}.onnx"
    if path.exists():
        return path
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    arrays = np.load(dataset())
    seen = split(SAMPLES, arrays["targets"], SEED).train
    images, targets = (torch.from_numpy(arrays[key][seen]) for key in ("image", "targets"))
    network = NETWORKS[name]()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch: tensors only
    _train(network, images, targets)
    torch.onnx.export(
        network.eval(),
        (images[:2],),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def _train(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    """Train with AdamW, one cycle of the learning rate, mirrored and moved images."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    batches = len(images) // _BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, _EPOCHS * batches)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(images))[: batches * _BATCH].view(-1, _BATCH):
            batch = images[chosen]
            if torch.rand(()) < 0.5:
                batch = batch.flip(3)
            down, across = torch.randint(-2, 3, (2,)).tolist()
            batch = batch.roll((down, across), (2, 3))
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(network(batch), targets[chosen]))
            optimizer.step()
            schedule.step()
