"""Training through the rounding against rounding alone, from eight bits to two.

Both calibrate the same way; ``qat`` then trains for a few epochs. Activations have eight bits.
"""

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, compress, row, show, trained

NETWORK = "resnet8"
BITS = (8, 4, 3, 2)
WINS_AT = (4, 3, 2)
RECOVER = {"epochs": 1}


def main() -> None:
    model = trained(NETWORK)
    found: dict[str, dict[str, float]] = {}
    for bits in BITS:
        step = {"method": "quantize", "weights": f"int{bits}"}
        for mode, more in (("static", {}), ("qat", {"recover": RECOVER})):
            label = f"{mode} int{bits}"
            found[label] = row(compress(model, [step | {"mode": mode} | more]))
            show(label, found[label])
    bars = [
        Bar(
            f"{NETWORK}, int{bits}: qat over static",
            "points",
            found[f"qat int{bits}"]["accuracy"] - found[f"static int{bits}"]["accuracy"],
            0.1,
            "at least",
        )
        for bits in WINS_AT
    ]
    conclude("qat", bars, seed=SEED, network=NETWORK, recover=RECOVER, jobs=found)


if __name__ == "__main__":
    main()
