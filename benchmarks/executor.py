"""What a training step costs through the executor, beside the same network as a plain module.

Forward, backward and SGD on the same batch, by turns in one process and on one thread; BatchNorm is
in evaluation mode in the plain module and folded in the graph. Time is the processor's, which other
processes on the machine change little. Memory is the growth of the process's peak during a step, in
a process of its own.
"""

import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from benchmarks._networks import LARGE, NETWORKS
from benchmarks._report import Bar, conclude
from workers.compression.executor import build
from workers.compression.graph.load import load
from workers.compression.graph.rewrites import normalize
from workers.compression.graph.trials import find_trials

BATCH = 32
ROUNDS = 15
SEED = 0

Step = Callable[[], float]


def images(count: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(count, 3, 32, 32, generator=generator)
    return x, torch.randint(10, (count,), generator=generator)


def plain(name: str) -> nn.Module:
    torch.manual_seed(SEED)
    return (NETWORKS | LARGE)[name]().eval()


def executor(name: str) -> nn.Module:
    """Export a network and build it from its normal form."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(
            plain(name), (images(2)[0],), path, input_names=["image"], output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip
        reference = load(path)
        trials = find_trials(reference, path)
        return build(normalize(path, trials)[0])


def step_of(name: str, *, ours: bool) -> Step:
    """Return a function that trains one step and returns its loss."""
    module = executor(name) if ours else plain(name)
    x, classes = images()
    optimizer = torch.optim.SGD(module.parameters(), 1e-3)

    def step() -> float:
        optimizer.zero_grad()
        logits = module({"image": x})["logits"] if ours else module(x)
        loss = nn.functional.cross_entropy(logits, classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def seconds(step: Step) -> tuple[float, float]:
    """Return the processor's time and the wall's."""
    wall, used = time.perf_counter(), time.process_time()
    step()
    return time.process_time() - used, time.perf_counter() - wall


def ratios(name: str) -> list[dict[str, float]]:
    """Time both by turns, the first one alternating."""
    steps = {"plain": step_of(name, ours=False), "executor": step_of(name, ours=True)}
    losses = [step() for step in steps.values()]
    assert abs(losses[0] - losses[1]) < 1e-3, losses
    rounds = []
    for index in range(ROUNDS):
        order = list(steps) if index % 2 else list(steps)[::-1]
        taken = {kind: seconds(steps[kind]) for kind in order}
        rounds.append(
            {f"{kind}_{clock}": taken[kind][i] for kind in steps for i, clock in enumerate(CLOCKS)}
        )
    return rounds


CLOCKS = ("cpu", "wall")


def peak(name: str, kind: str) -> float:
    """Return the MiB that a step adds at its peak, in a fresh process."""
    argv = [sys.executable, "-m", "benchmarks.executor", "--peak", name, kind]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def print_peak(name: str, kind: str) -> None:
    torch.set_num_threads(1)
    step = step_of(name, ours=kind == "executor")
    step()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the first step freed is free
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    step()
    status = Path("/proc/self/status").read_text()
    highest = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print((highest - before) / 2**20)


def median(rounds: list[dict[str, float]], clock: str) -> float:
    return statistics.median(each[f"executor_{clock}"] / each[f"plain_{clock}"] for each in rounds)


def main() -> None:
    torch.set_num_threads(1)
    bars, samples = [], {}
    for name in NETWORKS:
        rounds = ratios(name)
        memory = {kind: peak(name, kind) for kind in ("plain", "executor")}
        samples[name] = {"rounds": rounds, "peak_mib": memory}
        milliseconds = {
            kind: 1000 * statistics.median(each[f"{kind}_cpu"] for each in rounds)
            for kind in memory
        }
        print(
            f"{name:<14}", *(f"{kind} {milliseconds[kind]:.1f} ms, {memory[kind]:.0f} MiB;"
            for kind in memory), f"wall ratio {median(rounds, 'wall'):.2f}",
        )  # fmt: skip
        bars.append(Bar(f"{name}: time of a step", "x", median(rounds, "cpu"), 1.0, "under"))
        more = memory["executor"] / memory["plain"]
        bars.append(Bar(f"{name}: peak memory", "x", more, 1.2, "under"))
    conclude("executor", bars, SEED, **samples)


if __name__ == "__main__":
    if "--peak" in sys.argv:
        print_peak(*sys.argv[-2:])
    else:
        main()
