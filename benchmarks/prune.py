"""Whole channels taken away and the rest trained: 2.1 and 3 times fewer MACs, or half the time."""

from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, compress, row, show, trained

NETWORKS = ("resnet8",)
RECOVER = {"epochs": 20, "augment": ["flip"]}
WAYS: dict[str, dict[str, Any]] = {
    "2.1x fewer MACs": {"ratio": 1 - 1 / 2.1},
    "3x fewer MACs": {"ratio": 1 - 1 / 3},
    "half the time": {"ratio": 0.5, "of": "latency"},
}


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    for network in NETWORKS:
        for way, more in WAYS.items():
            label = f"{network}, {way}"
            step = {"method": "prune", "recover": RECOVER} | more
            found[label] = row(compress(trained(network), [step]))
            show(label, found[label])
    bars = [
        Bar(
            f"{label}: lost",
            "points",
            each["original_accuracy"] - each["accuracy"],
            1 if "2.1x" in label else 2,
            "under",
        )
        for label, each in found.items()
    ]
    conclude("prune", bars, seed=SEED, recover=RECOVER, jobs=found)


if __name__ == "__main__":
    main()
