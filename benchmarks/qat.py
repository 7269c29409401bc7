"""Training through the rounding against rounding alone, from eight bits to two.

Both calibrate the same way; ``qat`` then trains for a few epochs.
"""

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, compress, row, show, trained

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
RECOVER = {"epochs": 1}


def main() -> None:
    model = trained(NETWORK)
    found: dict[str, dict[str, float]] = {}
    for weights, activations in TYPES:
        step = {"method": "quantize", "weights": weights, "activations": activations}
        for mode, more in (("static", {}), ("qat", {"recover": RECOVER})):
            label = f"{mode} {weights} {activations}"
            found[label] = row(compress(model, [step | {"mode": mode} | more]))
            show(label, found[label])
    bars = [
        Bar(
            f"{NETWORK}, {weights} {activations}: qat over static",
            "points",
            found[f"qat {weights} {activations}"]["accuracy"]
            - found[f"static {weights} {activations}"]["accuracy"],
            0.1,
            "at least",
        )
        for weights, activations in TYPES[1:]
    ]
    conclude("qat", bars, seed=SEED, network=NETWORK, recover=RECOVER, jobs=found)


if __name__ == "__main__":
    main()
