"""A search beside hand-made pipelines and beside chance, with as many trials.

Each search is asked for as users do, of a private service with one worker. What is compared is the
least cost within the bound, and the area that the front dominates up to the original's cost and
``WORST`` points lost. ``--trials``, ``--minimize`` and ``--strategies`` make it shorter.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, dataset, trained
from planish import Client, embedded
from planish.types import SearchPoint

NETWORK = "resnet8"
BOUND = 0.01
WORST = 0.1
RECOVER = {"epochs": 10, "augment": ["flip"]}
HAND_MADE: dict[str, list[dict[str, Any]]] = {
    "half of the channels' work": [{"method": "prune", "ratio": 0.5, "recover": RECOVER}],
    "half of the ranks' work": [{"method": "low_rank", "ratio": 0.5, "recover": RECOVER}],
    "bits": [{"method": "quantize"}],
    "channels, then bits": [
        {"method": "prune", "ratio": 0.5, "recover": RECOVER},
        {"method": "quantize"},
    ],
}
"""What somebody tries who knows the methods, and not the network."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minimize", choices=["latency", "size", "macs"], default="macs")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--strategies", nargs="+", default=["guided", "random"])
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with embedded.running(ENGINE_THREADS="1") as url, Client(url) as client:
        model = client.models.upload(trained(NETWORK))
        data = client.datasets.upload(dataset(), model=model)
        hand_made = {
            name: _hand_made(client, model.id, data.id, steps, options.minimize)
            for name, steps in HAND_MADE.items()
        }
        for strategy in options.strategies:
            objective = {
                "minimize": options.minimize,
                "subject_to": {"max_quality_drop": BOUND},
                "budget": {"trials": options.trials, "minutes": options.minutes},
                "strategy": strategy,
            }
            job = client.jobs.create(model, dataset=data, objective=objective, seed=SEED)
            job = job.wait(progress=False)
            points = client.jobs.front(job).points
            found[strategy] = {
                "cost": min(point.cost for point in points if point.holds),
                "hypervolume": hypervolume(points),
                "trials": job.search.trials.done if job.search else 0,
                "verdict": job.verdict,
            }
            print(strategy, found[strategy], flush=True)
    least = min(hand_made.values())
    bars = [
        Bar(
            f"{strategy}: cost by the best hand-made",
            "times",
            each["cost"] / least,
            1.0001,
            "under",
        )
        for strategy, each in found.items()
        if strategy == "guided"
    ]
    if "random" in found:
        for strategy in sorted(found.keys() - {"random"}):
            share = found[strategy]["hypervolume"] / max(found["random"]["hypervolume"], 1e-9)
            name = f"{strategy}: hypervolume by chance's"
            bars.append(Bar(name, "times", share, 1, "at least"))
    conclude("search", bars, seed=SEED, network=NETWORK, hand_made=hand_made, found=found)


def _hand_made(
    client: Client, model: str, data: str, steps: Sequence[dict[str, Any]], minimize: str
) -> float:
    """Return the cost of a pipeline within the bound, 1 where it misses that."""
    job = client.jobs.create(model, steps, dataset=data, seed=SEED).wait(progress=False)
    before, after = job.baseline, job.compressed
    assert before, "a job that succeeded was measured"
    assert after, "a job that succeeded was measured"
    assert before.quality, "the dataset has targets"
    assert after.quality, "the dataset has targets"
    name = "latency_ms" if minimize == "latency" else "size_bytes" if minimize == "size" else "macs"
    cost = float(getattr(after, name) / getattr(before, name))
    lost = before.quality.value - after.quality.value
    print([step["method"] for step in steps], f"cost {cost:.3f}, lost {lost:.4f}", flush=True)
    return cost if lost <= BOUND else 1.0


def hypervolume(points: Sequence[SearchPoint]) -> float:
    """Return the share of the area up to cost 1 and ``WORST`` lost that a front dominates."""
    area, edge = 0.0, WORST
    for point in sorted(points, key=lambda each: each.cost):
        drop = min(max(point.drop, 0.0), WORST)
        area += max(edge - drop, 0.0) * max(1 - point.cost, 0.0)
        edge = min(edge, drop)
    return area / WORST


if __name__ == "__main__":
    main()
