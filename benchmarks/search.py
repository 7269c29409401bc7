"""Searches beside hand-made pipelines and beside chance, with as many trials and minutes.

``python -m benchmarks.search --networks resnet20 mobilenet_v2 vit pp_ocrv6 --seeds 0 1 2``

Each search is asked for as users do, of a private service with as many workers as ``--workers``
says, or of one that runs already at ``--url``. What is compared is the least cost within the bound,
and the area that all trials dominate up to the original's cost and ``WORST`` points lost.
``--minutes`` bounds each search; ``--trials``, ``--minimize`` and ``--strategies`` make the whole
shorter.
"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass

from app.domain.reports import Measures, quality_drop
from benchmarks._hand_made import SUBJECTS, Steps, Subject
from benchmarks._report import Bar, conclude
from planish import Client, embedded
from planish.errors import JobFailed
from planish.types import Job

WORST = 0.1
FIGURES = {"latency": "latency_ms", "size": "size_bytes", "macs": "macs"}
"""Of a measured model, by what a search minimises."""
_LEARNED = ("amc", "haq")
"""Strategies that are to be as good as chance."""


@dataclass(frozen=True)
class Point:
    """What a pipeline came to: its cost as a share of the original's, and the quality lost."""

    cost: float
    drop: float

    def is_as_good_as(self, other: "Point") -> bool:
        """Return whether it costs no more and loses no more."""
        return self.cost <= other.cost and max(self.drop, 0.0) <= max(other.drop, 0.0)


@dataclass(frozen=True)
class Found:
    """What a search came to, trial by trial."""

    points: list[Point]
    """In the order in which the trials were asked for; those without figures are left out."""
    half: int
    """How many of them are of the first half of the budget."""
    seconds: float

    def least(self, bound: float) -> float:
        """Return the least cost within a bound of quality; 1 where nothing holds it."""
        return min((each.cost for each in self.points if each.drop <= bound), default=1.0)


def main() -> None:
    options = _options()
    hand_made: dict[str, dict[str, Point]] = {}
    searches: dict[tuple[str, str, int], Found] = {}
    with _service(options) as url, Client(url) as client:
        for network in options.networks:
            subject = SUBJECTS[network]
            model = client.models.upload(subject.model())
            data = client.datasets.upload(subject.dataset(), model=model)
            for seed in options.seeds:
                task = Task(client, subject, model.id, data.id, seed, options.minimize)
                hand_made[_key(network, seed)] = by_hand = task.hand_made(options.epochs)
                print(f"{network} {seed}, by hand: {by_hand}", flush=True)
                for strategy in options.strategies:
                    found = task.search(strategy, options.trials, options.minutes)
                    searches[network, strategy, seed] = found
                    best = f"cost {found.least(subject.bound):.3f}"
                    area = f"hypervolume {hypervolume(found.points):.3f}"
                    took = f"{len(found.points)} trials in {found.seconds:.0f} s"
                    print(f"{network} {seed}, {strategy}: {best}, {area}, {took}", flush=True)
    conclude(
        "search",
        list(_bars(hand_made, searches)),
        settings=vars(options),
        hand_made={
            key: {name: asdict(point) for name, point in points.items()}
            for key, points in hand_made.items()
        },
        searches=[
            {"network": network, "strategy": strategy, "seed": seed, **asdict(found)}
            for (network, strategy, seed), found in searches.items()
        ],
    )


def _service(options: argparse.Namespace) -> AbstractContextManager[str]:
    """Return what hands out the URL of a service: the one that is named, or a private one."""
    if options.url is not None:
        return nullcontext(options.url)
    devices = json.dumps(["cpu"] * options.workers)
    return embedded.running(ENGINE_THREADS="1", WORKER_DEVICES=devices)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=[*SUBJECTS], default=["resnet8"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minimize", choices=[*FIGURES], default="macs")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=10, help="of trainings by hand")
    parser.add_argument("--workers", type=int, default=1, help="of the private service")
    parser.add_argument("--url", help="of a service that runs already")
    parser.add_argument("--strategies", nargs="+", default=["guided", "random"])
    parser.add_argument("--strict", action="store_true", help="fail where a bar is missed")
    return parser.parse_args()


@dataclass(frozen=True)
class Task:
    """A network, data for it, and what is asked of all jobs alike."""

    client: Client
    subject: Subject
    model: str
    data: str
    seed: int
    minimize: str

    def hand_made(self, epochs: int) -> dict[str, Point]:
        """Run the hand-made pipelines; those that cannot be done are left out."""
        asked = self.subject.hand_made(epochs)
        tried = {name: self._carried_out(steps) for name, steps in asked.items()}
        return {name: point for name, point in tried.items() if point is not None}

    def _carried_out(self, steps: Steps) -> Point | None:
        asked = [dict(step) for step in steps]
        job = self.client.jobs.create(self.model, asked, dataset=self.data, seed=self.seed)
        try:
            return _point(job.wait(progress=False), self.minimize)
        except JobFailed:
            return None

    def search(self, strategy: str, trials: int, minutes: float) -> Found:
        """Run a search; return what its trials came to, which may be nothing."""
        objective = {
            "minimize": self.minimize,
            "subject_to": {"max_quality_drop": self.subject.bound},
            "budget": {"trials": trials, "minutes": minutes},
            "strategy": strategy,
        }
        start = time.monotonic()
        create = self.client.jobs.create
        job = create(self.model, dataset=self.data, objective=objective, seed=self.seed)
        with suppress(JobFailed):
            job.wait(progress=False)
        seconds = time.monotonic() - start
        listed = reversed([*self.client.jobs.list(parent=job)])
        points = [_point(trial, self.minimize) for trial in listed if trial.steps]
        half = sum(point is not None for point in points[: trials // 2])
        known = [point for point in points if point is not None]
        return Found(known, half, round(seconds, 1))


def _point(job: Job, minimize: str) -> Point | None:
    """Return the figures of a job, None where it has none."""
    if job.baseline is None or job.compressed is None:
        return None
    before, after = (
        Measures.model_validate(each.model_dump(mode="json"))
        for each in (job.baseline, job.compressed)
    )
    cost = float(getattr(after, FIGURES[minimize]) / getattr(before, FIGURES[minimize]))
    return Point(cost, quality_drop(before.quality, after.quality, after.fidelity))


def _key(network: str, seed: int) -> str:
    return f"{network}, seed {seed}"


def _bars(
    hand_made: dict[str, dict[str, Point]], searches: dict[tuple[str, str, int], Found]
) -> Iterable[Bar]:
    """Yield how searches do beside hand-made pipelines, and beside chance where that was run."""
    areas = {key: hypervolume(found.points) for key, found in searches.items()}
    for (network, strategy, seed), found in searches.items():
        what = f"{strategy} on {_key(network, seed)}"
        if strategy == "guided":
            by_hand = hand_made[_key(network, seed)].values()
            reached = sum(any(p.is_as_good_as(h) for p in found.points) for h in by_hand)
            share = reached / max(len(by_hand), 1)
            yield Bar(f"{what}: hand-made pipelines reached", "of them", share, 1, "at least")
            early = hypervolume(found.points[: found.half])
            early /= max(areas[network, strategy, seed], 1e-9)
            yield Bar(f"{what}: hypervolume at half of the trials", "of it", early, 0.9, "at least")
        chance = areas.get((network, "random", seed))
        if chance is not None and strategy in ("guided", *_LEARNED):
            ratio = areas[network, strategy, seed] / max(chance, 1e-9)
            yield Bar(f"{what}: hypervolume by chance's", "times", ratio, 1, "at least")


def hypervolume(points: Sequence[Point]) -> float:
    """Return the share of the area up to cost 1 and ``WORST`` lost that points dominate."""
    area, edge = 0.0, WORST
    for point in sorted(points, key=lambda each: (each.cost, each.drop)):
        drop = min(max(point.drop, 0.0), WORST)
        area += max(edge - drop, 0.0) * max(1 - point.cost, 0.0)
        edge = min(edge, drop)
    return area / WORST


if __name__ == "__main__":
    main()
