"""What is asked of quantization after training, on each model and on all together."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks._report import Bar

Row = Mapping[str, Any]
Ways = Mapping[str, Row]

POINT, NOT_SLOWER = 1.0, 0.97
_FASTER, _OF_MODELS, _BESIDE_PEERS = 1.2, 2 / 3, 1.3
_DOMINATE, _SMALLER = 0.95, 3.5
"""The share of a file that weights are where they dominate, and how much smaller it gets then."""


def of(results: Mapping[str, Ways], ours: Collection[str]) -> list[Bar]:
    """Return the bars of all that was measured.

    Args:
        results: the figures of ways, by model.
        ours: the names of our ways; the others are peers.
    """
    bars = [bar for name, ways in results.items() for bar in _of_model(name, ways, ours)]
    for way in ours:
        bars += _of_all(way, results, ours)
    return bars


def within(ways: Ways, ours: Collection[str]) -> dict[str, Row]:
    """Return what peers made that loses no more than the point."""
    return {
        way: row
        for way, row in ways.items()
        if way not in ours and "problem" not in row and row["lost"] <= POINT
    }


def speed(row: Row) -> float:
    """Return by how much a file is faster with one thread."""
    return float(row["faster"]["1"][0])


def no_worse(row: Row) -> bool:
    """Return whether a file is neither slower nor larger than the original."""
    slowest = min(value for value, _, _ in row["faster"].values())
    return bool(slowest >= NOT_SLOWER and row["smaller"] >= 1)


def _of_model(name: str, ways: Ways, ours: Collection[str]) -> Iterator[Bar]:
    good = within(ways, ours).values()
    for way in (way for way in ours if way in ways):
        row, label = ways[way], f"{name}, {way}"
        yield Bar(f"{label}: failures", "", float("problem" in row), 1, "under")
        if "problem" in row:
            continue
        slowest = min(value for value, _, _ in row["faster"].values())
        yield Bar(f"{label}: lost", "points", row["lost"], POINT + 1e-9, "under")
        yield Bar(f"{label}: speed", "times", slowest, NOT_SLOWER, "at least")
        yield Bar(f"{label}: size", "times smaller", row["smaller"], 1, "at least")
        if row["weights"] > _DOMINATE:
            mostly = f"{label}: size where weights dominate"
            yield Bar(mostly, "times smaller", row["smaller"], _SMALLER, "at least")
        if good:
            fastest = speed(row) / max(speed(each) for each in good)
            smallest = row["smaller"] / max(each["smaller"] for each in good)
            yield Bar(f"{label}: beside the fastest peer", "times", fastest, NOT_SLOWER, "at least")
            yield Bar(f"{label}: beside the smallest peer", "times", smallest, 1, "at least")


def _of_all(way: str, results: Mapping[str, Ways], ours: Collection[str]) -> Iterator[Bar]:
    done = {name: each for name, each in results.items() if "faster" in each.get(way, {})}
    if not done:
        return
    speeds = [speed(ways[way]) for ways in done.values()]
    share = float(np.mean([value > _FASTER for value in speeds]))
    yield Bar(
        f"all, {way}: share that is {_FASTER} times as fast", "", share, _OF_MODELS, "at least"
    )
    beside = [
        speed(ways[way]) / max(speed(row) for row in within(ways, ours).values())
        for ways in done.values()
        if within(ways, ours)
    ]
    if beside:
        mean = float(np.exp(np.mean(np.log(beside))))
        times_as_fast = f"all, {way}: times as fast as the fastest peer, on average"
        yield Bar(times_as_fast, "", mean, _BESIDE_PEERS, "at least")
