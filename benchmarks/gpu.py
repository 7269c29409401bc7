"""A GPU beside the CPU of the same machine: one training step, whole jobs, and mixed precision.

A step is forward, backward and SGD through the executor on one batch. A job is the engine as a
worker starts it, with and without a visible GPU, on Fashion-MNIST and the network of the other
benchmarks: training dominates it, delivery and timing are the CPU's in both. Mixed precision
(bfloat16) is compared with TF32 in trainings from several seeds. Accuracies are those on the
10,000 test images.

``python -m benchmarks.gpu [steps] [jobs] [precision] [--networks …]``
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import _engine, _task
from benchmarks._networks import LARGE, NETWORKS
from benchmarks._report import Bar, conclude
from benchmarks.executor import executor

BATCH, ROUNDS, WARM_UP = 128, 8, 2
ENOUGH_SECONDS = 10.0
SEEDS = (0, 1, 2)
PARTS = ("steps", "jobs", "precision")
NETWORK = "resnet20"
JOBS: Mapping[str, Mapping[str, Any]] = {
    "prune": {"method": "prune", "ratio": 0.5, "recover": {"epochs": 5}},
    "distill": {
        "method": "distill",
        "student": {"derive": {"width": 0.5}},
        "recover": {"epochs": 6},
    },
    "qat": {"method": "quantize", "mode": "qat"},
}
ENGINE = ("-m", "workers.compression")
WITH_BFLOAT16 = """
import sys
from pathlib import Path
from workers.compression.__main__ import main
from workers.compression.learning import stepping
stepping.MIXED_FROM = 0
sys.exit(main(Path(sys.argv[1])))
"""
"""Runs the engine so that small networks are trained in mixed precision too."""

Rows = dict[str, Any]


def step_seconds(name: str, way: str) -> float:
    """Return the median time of a training step.

    Args:
        name: of the network.
        way: ``cpu``, or ``cuda`` with how products are computed: ``float32``, ``tf32`` or
            ``bfloat16``.
    """
    device, _, numbers = way.partition(" ")
    torch.set_float32_matmul_precision("highest" if numbers == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = numbers != "float32"
    module = executor(name).to(device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator).to(device)
    classes = (torch.arange(BATCH) % 10).to(device)
    optimizer = torch.optim.SGD(module.parameters(), 1e-3, fused=True)
    seconds = list[float]()
    while len(seconds) < ROUNDS and (len(seconds) <= WARM_UP or sum(seconds) < ENOUGH_SECONDS):
        began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16) if numbers == "bfloat16" else nullcontext():
            loss = nn.functional.cross_entropy(module({"image": x})["logits"].float(), classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        float(loss.detach())
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[WARM_UP:])


def steps(networks: Sequence[str]) -> tuple[list[Bar], Rows]:
    """Time a training step of each network on the CPU, and on the GPU in each precision."""
    bars, rows = list[Bar](), Rows()
    ways = ("cpu", "cuda float32", "cuda tf32", "cuda bfloat16")
    for name in networks:
        times = {way: step_seconds(name, way) for way in ways}
        rows[name] = times
        print(name, times, flush=True)
        gain = times["cpu"] / times["cuda tf32"]
        bars.append(Bar(f"{name}: a training step, GPU over CPU", "x", gain, 1, "at least"))
    return bars, rows


def finished(
    step: Mapping[str, Any],
    environment: Mapping[str, str],
    seed: int,
    engine: Sequence[str] = ENGINE,
) -> Rows:
    """Run a job; return its seconds, its step's seconds, and the accuracy on the test images."""
    model, data = _task.trained(NETWORK), _task.dataset()
    with tempfile.TemporaryDirectory(prefix="planish-gpu-") as place:
        result_path = Path(place) / "model.onnx"
        began = time.perf_counter()
        result = _engine.run(
            model, data, [step], result_path, seed,
            threads=os.cpu_count() or 1, environment={**os.environ, **environment}, engine=engine,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        assert result.report is not None, result.problem
        in_steps = sum(report.seconds for report in result.report.step_reports)
        accuracy = _task.tested(result_path)
    return {"seconds": seconds, "step_seconds": in_steps, "accuracy": accuracy}


def jobs() -> tuple[list[Bar], Rows]:
    """Run whole jobs on either device."""
    bars, rows = list[Bar](), Rows()
    devices: Mapping[str, Mapping[str, str]] = {"cpu": {"CUDA_VISIBLE_DEVICES": ""}, "cuda": {}}
    for method, step in JOBS.items():
        row = {device: finished(step, given, SEEDS[0]) for device, given in devices.items()}
        rows[method] = row
        print(method, row, flush=True)
        gain = row["cpu"]["seconds"] / row["cuda"]["seconds"]
        apart = abs(row["cpu"]["accuracy"] - row["cuda"]["accuracy"])
        bars.append(Bar(f"{method}: a job, GPU over CPU", "x", gain, 1, "at least"))
        bars.append(Bar(f"{method}: difference of accuracy", "points", apart, 1.5, "under"))
    return bars, rows


def precision() -> tuple[list[Bar], Rows]:
    """Run trainings from several seeds with bfloat16 and with TF32, side by side."""
    ways = {"bfloat16": ("-c", WITH_BFLOAT16), "tf32": ENGINE}
    bars, rows = list[Bar](), Rows()
    for method in ("prune", "distill"):
        with ThreadPoolExecutor(len(ways) * len(SEEDS)) as pool:
            running = {
                way: [pool.submit(finished, JOBS[method], {}, seed, engine) for seed in SEEDS]
                for way, engine in ways.items()
            }
            row = {
                way: [future.result()["accuracy"] for future in futures]
                for way, futures in running.items()
            }
        rows[method] = row
        print(method, row, flush=True)
        gain = statistics.mean(row["bfloat16"]) - statistics.mean(row["tf32"])
        bars.append(Bar(f"{method}: bfloat16 above tf32", "points", gain, -0.3, "at least"))
    return bars, rows


def main() -> None:
    """Print how many times as fast the GPU is, and how near its results are."""
    networks = (*NETWORKS, *LARGE)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument(
        "--networks", nargs="+", choices=networks, default=networks, help="whose steps are timed"
    )
    options, _ = parser.parse_known_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured.")
        return
    parts: Mapping[str, Callable[[], tuple[list[Bar], Rows]]] = {
        "steps": partial(steps, options.networks),
        "jobs": jobs,
        "precision": precision,
    }
    bars, rows = list[Bar](), Rows(device=torch.cuda.get_device_name())
    for name in options.parts or PARTS:
        part_bars, rows[name] = parts[name]()
        bars += part_bars
    conclude("gpu", bars, seed=SEEDS[0], samples=rows)


if __name__ == "__main__":
    main()
