"""Half the MACs by thinner factors: with and without whitening, and with training afterwards."""

from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, compress, row, show, trained

NETWORKS = ("resnet8",)
RECOVER = {"epochs": 2}
WAYS: dict[str, dict[str, Any]] = {
    "weights alone": {"whiten": False},
    "whitened": {},
    "whitened, 2 epochs": {"recover": RECOVER},
}
STEP = {"method": "low_rank", "ratio": 0.5}


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    for network in NETWORKS:
        for way, more in WAYS.items():
            label = f"{network}, {way}"
            found[label] = row(compress(trained(network), [STEP | more]))
            show(label, found[label])
    bars = []
    for network in NETWORKS:
        alone, whitened, recovered = (found[f"{network}, {way}"] for way in WAYS)
        gain = whitened["accuracy"] - alone["accuracy"]
        lost = recovered["original_accuracy"] - recovered["accuracy"]
        bars += [
            Bar(f"{network}: whitened over weights alone", "points", gain, 0, "at least"),
            Bar(f"{network}: fewer MACs", "times", recovered["macs_ratio"], 1.95, "at least"),
            Bar(f"{network}: lost after training", "points", lost, 1, "under"),
        ]
    conclude("low_rank", bars, seed=SEED, step=STEP, recover=RECOVER, jobs=found)


if __name__ == "__main__":
    main()
