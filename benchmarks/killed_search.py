"""A search beside the same one whose workers are killed at random, and beside more workers.

``python -m benchmarks.killed_search --seeds 0 1 --strategies guided evolution --kills 20``

Each search is made by one worker that nothing disturbs, then by ``--workers``, then by one, and by
``--workers``, that are killed (SIGKILL, engine and all) ``--kills`` times while they run a trial.
All have to try the same pipelines, measure the same of each, and end with the same bytes. Times
and memory are left out, so MACs are minimised; steps are made anew each time. The network is a
perceptron for scikit-learn's digits, and the engine is the real one.
"""

import argparse
import io
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from app.domain.searches import StrategyName
from benchmarks._digits_networks import digits, example, fitted
from benchmarks._faults import Target, kill_worker
from benchmarks._report import Bar, conclude
from tests.e2e.service import Json, Service
from tests.waiting import eventually

_IMAGES = "cnn"
"""Whoever reads the digits as they are."""
_MINUTES = 240
"""Of a search: time is to end none."""
_AT_ONCE = 3
"""Trials: what a search finds hangs on it, and without it on the workers that there are."""
_LOOK_SECONDS = 0.2
_VARYING = {"latency_ms", "peak_memory_bytes"}
"""Figures that are never quite the same twice."""


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    trials: list[Json]
    """In the order of their numbers: the steps, and what was measured but for times."""
    best: Json | None
    sha256: str
    """Of the result."""
    seconds: float
    kills: int
    attempts: int
    """Of all trials: how often a run was started."""

    def differences(self, other: "Found") -> int:
        """Return how many trials are not the other's, and whether the result is not."""
        pairs = zip(self.trials, other.trials, strict=False)
        trials = sum(these != those for these, those in pairs)
        trials += abs(len(self.trials) - len(other.trials))
        return trials + ((self.best, self.sha256) != (other.best, other.sha256))


@dataclass(frozen=True)
class Bench:
    """A service with a network and its data."""

    service: Service
    model: str
    data: str
    trials: int

    def search(self, strategy: str, seed: int, workers: int, kills: int, pace: float) -> Found:
        """Run a search; kill its workers so often, as often in each trial.

        Args:
            strategy: of the search.
            seed: of the search, and of the moments at which workers are killed.
            workers: how many run its trials.
            kills: how many there are; fewer where the search ends before.
            pace: the longest that passes before a kill, in seconds.
        """
        with ExitStack() as closing:
            more = [closing.enter_context(self.service.more()) for _ in range(workers - 1)]
            servers = [self.service.jobs, *more]
            began = time.monotonic()
            search_id = self._submit(strategy, seed)
            chance = random.Random(f"{strategy} {seed} {workers}")
            target = Target(self.service, {"jobs": servers}, None, {}, chance)
            killed = 0
            while (job := self.service.job(search_id))["finished_at"] is None:
                time.sleep(_LOOK_SECONDS)
                if killed < kills * (job["search"]["trials"]["done"] + 1) // self.trials:
                    target.pause(pace)
                    killed += self._kill_one(target)
            seconds = time.monotonic() - began
        assert job["status"] == "succeeded", job["problem"]
        rows = self.service.rows(
            "SELECT j.request->'steps', j.compressed, j.problem->>'type', j.attempts FROM trials t"
            " JOIN jobs j ON j.id = t.job_id WHERE t.search_id = %s ORDER BY t.number",
            search_id,
        )
        best = job["search"]["best"]
        return Found(
            trials=[
                {"steps": steps, "measured": _lasting(measured), "problem": problem}
                for steps, measured, problem, _ in rows
            ],
            best=best and {"trial": best["trial"], "cost": best["cost"], "drop": best["drop"]},
            sha256=job["artifacts"][0]["sha256"],
            seconds=round(seconds, 1),
            kills=killed,
            attempts=sum(attempts for *_, attempts in rows),
        )

    def _submit(self, strategy: str, seed: int) -> str:
        objective = {
            "minimize": "macs",
            "strategy": strategy,
            "subject_to": {"max_quality_drop": 0.02},
            "budget": {"trials": self.trials, "minutes": _MINUTES, "at_once": _AT_ONCE},
        }
        body = {"model": self.model, "dataset": self.data, "objective": objective, "seed": seed}
        answer = self.service.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def _kill_one(self, target: Target) -> bool:
        """Kill a worker that runs a trial; return whether there was one."""
        runs = "SELECT 1 FROM workers w JOIN jobs j ON j.lease_owner = w.id WHERE w.pid = %s"
        busy = [each for each in target.workers["jobs"] if self.service.rows(runs, each.pid)]
        if busy:
            kill_worker(replace(target, workers={"jobs": busy}))
        return bool(busy)


def _lasting(measured: Json | None) -> Json | None:
    return measured and {name: each for name, each in measured.items() if name not in _VARYING}


def _exported(file: Path) -> Path:
    """Train a perceptron, the same each time, and return it as ONNX."""
    torch.manual_seed(0)
    layers = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    network = fitted(nn.Sequential(nn.Flatten(), *layers), _IMAGES)
    torch.onnx.export(
        network, example(_IMAGES), file, input_names=["image"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, external_data=False,
        verbose=False,
    )  # fmt: skip
    return file


@contextmanager
def bench(trials: int) -> Iterator[Bench]:
    """Run a service, with the network and its data uploaded."""
    with TemporaryDirectory(prefix="planish-killed-") as place:
        service = Service(Path(place))
        try:
            service.start()
            file = _exported(Path(place) / "model.onnx")
            images, classes = digits()
            arrays: dict[str, Any] = {"image": images, "targets": classes}
            rows = io.BytesIO()
            np.savez(rows, allow_pickle=False, **arrays)
            model = service.upload(file.read_bytes())
            sent = service.http.post("/v1/datasets?filename=digits.npz", content=rows.getvalue())
            data = sent.raise_for_status().json()["id"]
            shown = f"/v1/datasets/{data}"
            eventually(lambda: service.http.get(shown).json()["status"] == "ready", 120, "the data")
            yield Bench(service, model, data, trials)
        finally:
            service.stop()


def main() -> None:
    options = _options()
    bars: list[Bar] = []
    searches: list[dict[str, Any]] = []
    with bench(options.trials) as here:
        for strategy in options.strategies:
            for seed in options.seeds:
                alone = here.search(strategy, seed, 1, 0, 0)
                pace = alone.seconds / options.trials
                for workers, kills in ((options.workers, 0), (1, options.kills),
                                       (options.workers, options.kills)):  # fmt: skip
                    found = here.search(strategy, seed, workers, kills, pace)
                    what = f"{strategy}, seed {seed}, workers: {workers}, kills: {found.kills}"
                    different = found.differences(alone)
                    bars.append(Bar(f"{what}: differences", "of trials", different, 1, "under"))
                    if kills:
                        bars.append(Bar(f"{what}: kills", "kills", found.kills, kills, "at least"))
                    else:
                        ratio = alone.seconds / found.seconds
                        bars.append(Bar(f"{what}: as fast", "times one", ratio, 1.8, "at least"))
                    searches.append({"strategy": strategy, "seed": seed, "workers": workers,
                                     "alone": asdict(alone), **asdict(found)})  # fmt: skip
                    print(f"{what}: {different} differences, {found.attempts} attempts,"
                          f" {found.seconds} s, alone {alone.seconds} s", flush=True)  # fmt: skip
        complaints = here.service.complaints()
    bars.append(Bar("lines that tell of a fault of ours", "lines", len(complaints), 1, "under"))
    conclude("killed_search", bars, settings=vars(options), cores=os.cpu_count(), searches=searches)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--strategies", nargs="+", choices=get_args(StrategyName), default=["guided"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2, help="of the larger fleet")
    parser.add_argument("--strict", action="store_true", help="fail where a bar is missed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
