"""A whole pipeline: at least 10 times smaller and 3 times faster at no more than a point lost."""

from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, accuracy, judged, show, trained

NETWORK = "resnet20"
STEPS: list[dict[str, Any]] = [
    {
        "method": "distill",
        "student": {"derive": {"depth": 0.6}},
        "recover": {"epochs": 8, "augment": ["flip"]},
    },
    {
        "method": "prune",
        "ratio": 0.6,
        "of": "latency",
        "recover": {"epochs": 16, "augment": ["flip"]},
    },
    {
        "method": "quantize",
        "mode": "qat",
        "weights": "int4",
        "activations": "none",
        "recover": {"epochs": 4, "augment": ["flip"]},
    },
]
"""Layers cost time however narrow they are, so some go first. Activations stay float: eight bits
save no time in layers as narrow as these are in the end.
"""


def main() -> None:
    report, found = judged(trained(NETWORK), STEPS)
    for step in report.step_reports:
        after = step.after
        print(
            f"{step.method:10} {accuracy(after):6.2f} % {after.size_bytes:8} bytes"
            f" {after.macs:10} MACs {after.latency_ms:.3f} ms"
        )
    show("the whole pipeline, on the test images", found)
    lost = found["original_accuracy"] - found["accuracy"]
    bars = [
        Bar("smaller", "times", found["size_ratio"], 10, "at least"),
        Bar("faster", "times", found["speedup"], 3, "at least"),
        Bar("lost", "points", lost, 1.0001, "under"),
    ]
    conclude("pipeline", bars, seed=SEED, network=NETWORK, steps=STEPS, jobs=found)


if __name__ == "__main__":
    main()
