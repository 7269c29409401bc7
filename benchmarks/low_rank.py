"""Half the MACs by thinner factors: what whitening, sensitivity and training afterwards give."""

from typing import Any

from benchmarks import _task
from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, show, trained

NETWORKS = ("resnet20",)
RECOVER = {"epochs": 2}
WAYS: dict[str, dict[str, Any]] = {
    "weights alone": {"whiten": False, "rank": "ratio"},
    "whitened": {"rank": "ratio"},
    "whitened, by sensitivity": {},
    "whitened, by sensitivity, 2 epochs": {"recover": RECOVER},
}
STEP = {"method": "low_rank", "ratio": 0.5}


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    for network in NETWORKS:
        for way, more in WAYS.items():
            label = f"{network}, {way}"
            found[label] = judged(network, STEP | more)
            show(label, found[label])
    bars = []
    for network in NETWORKS:
        alone, whitened, sensed, recovered = (found[f"{network}, {way}"] for way in WAYS)
        lost = recovered["original_accuracy"] - recovered["accuracy"]
        nearer = sensed["sqnr_db"] - whitened["sqnr_db"]
        gained, sensed_gained = _gain(whitened, alone), _gain(sensed, whitened)
        bars += [
            Bar(f"{network}: whitened over weights alone", "points", gained, 0, "at least"),
            Bar(f"{network}: sensitivity over own errors", "points", sensed_gained, 0, "at least"),
            Bar(f"{network}: outputs nearer by sensitivity", "dB", nearer, 0, "at least"),
            Bar(f"{network}: fewer MACs", "times", recovered["macs_ratio"], 1.95, "at least"),
            Bar(f"{network}: lost after training", "points", lost, 1, "under"),
        ]
    conclude("low_rank", bars, seed=SEED, step=STEP, recover=RECOVER, jobs=found)


def judged(network: str, step: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a job, its accuracies on the test images."""
    report, figures = _task.judged(trained(network), [step])
    fidelity = report.compressed.fidelity
    assert fidelity is not None, "it is told with and without targets"
    return figures | {"sqnr_db": fidelity.sqnr_db or 0.0}


def _gain(better: dict[str, float], worse: dict[str, float]) -> float:
    return better["accuracy"] - worse["accuracy"]


if __name__ == "__main__":
    main()
