"""A whole pipeline: at least 10 times smaller and 3 times faster at no more than a point lost."""

from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, accuracy, compress, row, show, trained

NETWORK = "resnet8"
STEPS: list[dict[str, Any]] = [
    {
        "method": "prune",
        "ratio": 0.7,
        "of": "parameters",
        "recover": {"epochs": 12, "augment": ["flip"]},
    },
    {
        "method": "quantize",
        "mode": "qat",
        "weights": "int4",
        "activations": "none",
        "recover": {"epochs": 2},
    },
]
"""Activations stay float: in eight bits, the network pruned as far was slower still."""


def main() -> None:
    report = compress(trained(NETWORK), STEPS)
    for step in report.step_reports:
        after = step.after
        print(
            f"{step.method:10} {accuracy(after):6.2f} % {after.size_bytes:8} bytes"
            f" {after.macs:10} MACs {after.latency_ms:.3f} ms"
        )
    found = row(report)
    show("the whole pipeline", found)
    lost = found["original_accuracy"] - found["accuracy"]
    bars = [
        Bar("smaller", "times", found["size_ratio"], 10, "at least"),
        Bar("faster", "times", found["speedup"], 3, "at least"),
        Bar("lost", "points", lost, 1.0001, "under"),
    ]
    conclude("pipeline", bars, seed=SEED, network=NETWORK, steps=STEPS, jobs=found)


if __name__ == "__main__":
    main()
