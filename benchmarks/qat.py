"""Training through the rounding against rounding alone, from eight bits to two.

Both calibrate the same way; ``qat`` then trains for a few epochs. Each runs with several seeds,
which draw the calibration samples, those that are set aside and the order of the others. Seeds on
the command line choose among them.
"""

from statistics import mean

from benchmarks._report import Bar, conclude, seeds_asked
from benchmarks._task import judged, show, trained

NETWORK = "resnet8"
TYPES = (
    ("int8", "uint8"),
    ("int4", "uint4"),
    ("int8", "uint4"),
    ("int4", "uint8"),
    ("int3", "uint8"),
    ("int2", "uint8"),
)
"""Of weights and activations; the first is for comparison, at the others ``qat`` is to win."""
RECOVER = {"epochs": 2}
SEEDS = (0, 1, 2)


def main() -> None:
    model, seeds = trained(NETWORK), seeds_asked(SEEDS)
    found: dict[str, list[dict[str, float]]] = {}
    for weights, activations in TYPES:
        step = {"method": "quantize", "weights": weights, "activations": activations}
        for mode, more in (("static", {"force": True}), ("qat", {"recover": RECOVER})):
            label = f"{mode} {weights} {activations}"
            steps = [step | {"mode": mode} | more]
            found[label] = [judged(model, steps, seed)[1] for seed in seeds]
            for run in found[label]:
                show(label, run)
    bars = [
        Bar(
            f"{NETWORK}, {weights} {activations}: qat over static",
            "points",
            _accuracy(found[f"qat {weights} {activations}"])
            - _accuracy(found[f"static {weights} {activations}"]),
            0.1,
            "at least",
        )
        for weights, activations in TYPES[1:]
    ]
    conclude("qat", bars, seeds=list(seeds), network=NETWORK, recover=RECOVER, jobs=found)


def _accuracy(runs: list[dict[str, float]]) -> float:
    return mean(each["accuracy"] for each in runs)


if __name__ == "__main__":
    main()
