"""A GPU beside the CPU of the same machine: one training step, and whole jobs.

A step is forward, backward and SGD through the executor on one batch, by turns. A job is the engine
as a worker starts it, with and without a visible GPU: training dominates it, delivery and timing
are the CPU's in both. Data are drawn, and labelled by the network itself; nothing is downloaded.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from app.domain.directory import DATASET, ORDER, RESULT, UPLOAD, Result
from benchmarks._engine import order_of
from benchmarks._networks import NETWORKS
from benchmarks._report import Bar, conclude
from benchmarks.executor import executor, plain

BATCH, ROUNDS, SAMPLES = 256, 10, 2_000
JOBS: dict[str, dict[str, object]] = {
    "prune": {"method": "prune", "ratio": 0.5, "recover": {"epochs": 5}},
    "distill": {"method": "distill", "student": {"derive": {"width": 0.5}}},
    "qat": {"method": "quantize", "mode": "qat"},
}
DEVICES = ("cpu", "cuda")


def step_seconds(name: str, device: str) -> float:
    """Return the median time of a training step."""
    module = executor(name).to(device)
    x = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    classes = (torch.arange(BATCH) % 10).to(device)
    optimizer = torch.optim.SGD(module.parameters(), 1e-3)
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module({"image": x})["logits"], classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        float(loss.detach())  # waits for the GPU
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[2:])


def job(directory: Path, step: dict[str, object], device: str) -> Result:
    """Run the engine on a job directory."""
    order = {**order_of([step]), "threads": os.cpu_count()}
    (directory / ORDER).write_text(json.dumps(order))
    env = dict(os.environ) if device == "cuda" else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    argv = [sys.executable, "-m", "workers.compression", str(directory)]
    subprocess.run(argv, env=env, check=True)
    return Result.model_validate_json((directory / RESULT).read_bytes())


def prepared(directory: Path, name: str) -> None:
    """Put a network and data that it has labelled into a job directory."""
    network = plain(name)
    images = np.random.default_rng(0).normal(size=(SAMPLES, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        targets = network(torch.from_numpy(images)).argmax(-1).numpy()
    np.savez(directory / "data.npz", allow_pickle=False, image=images, targets=targets)
    (directory / "data.npz").rename(directory / DATASET)
    torch.onnx.export(
        network, (torch.from_numpy(images[:2]),), directory / UPLOAD, input_names=["image"],
        output_names=["logits"], dynamic_axes={"image": {0: "batch"}}, dynamo=False,
        opset_version=20,
    )  # fmt: skip


def main() -> None:
    """Print how many times as fast the GPU is, and how near its results are."""
    if not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured.")
        return
    bars: list[Bar] = []
    samples: dict[str, object] = {}
    for name in NETWORKS:
        times = {device: step_seconds(name, device) for device in DEVICES}
        samples[f"{name}: a step"] = times
        gain = times["cpu"] / times["cuda"]
        bars.append(Bar(f"{name}: a training step, GPU over CPU", "x", gain, 1, "at least"))
    for method, step in JOBS.items():
        seconds, kept = {}, {}
        for device in DEVICES:
            with tempfile.TemporaryDirectory(prefix="planish-gpu-") as place:
                prepared(Path(place), "resnet20")
                began = time.perf_counter()
                report = job(Path(place), step, device).report
                seconds[device] = time.perf_counter() - began
                assert report is not None
                assert report.compressed.quality is not None
                kept[device] = report.compressed.quality.value
        samples[f"{method}: a job"] = {"seconds": seconds, "quality": kept}
        gain, far = seconds["cpu"] / seconds["cuda"], abs(kept["cpu"] - kept["cuda"])
        bars.append(Bar(f"{method}: a job, GPU over CPU", "x", gain, 1, "at least"))
        bars.append(Bar(f"{method}: difference of quality", "", far, 0.03, "under"))
    conclude("gpu", bars, seed=0, samples=samples)


if __name__ == "__main__":
    main()
