"""Compact students of a network that has seen ten times their images, beside the same ones alone.

That is how it is where a model is compressed by others than those who trained it: they have the
model, and a sample of the data. A student alone learns from labels.
"""

from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, WELL, judged, show, trained

STUDENTS: dict[str, dict[str, Any]] = {
    "shufflenet_v2, quarter width": {"architecture": "shufflenet_v2", "width": 0.25},
    "mobilenet_v2, quarter width": {"architecture": "mobilenet_v2", "width": 0.25},
    "derived, half width": {"derive": {"width": 0.5}},
}
LOSSES: dict[str, list[dict[str, Any]]] = {
    "alone": [{"kind": "labels"}],
    "distilled": [{"kind": "labels"}, {"kind": "soft_targets"}],
}
RECOVER = {"epochs": 16, "augment": ["flip"]}


def main() -> None:
    teacher = trained("resnet20", WELL)
    found: dict[str, dict[str, float]] = {}
    for name, student in STUDENTS.items():
        for way, losses in LOSSES.items():
            step = {"method": "distill", "student": student, "losses": losses, "recover": RECOVER}
            found[f"{name}, {way}"] = judged(teacher, [step])[1]
            show(f"{name}, {way}", found[f"{name}, {way}"])
    bars = [
        Bar(
            f"{name}: distilled over alone",
            "points",
            found[f"{name}, distilled"]["accuracy"] - found[f"{name}, alone"]["accuracy"],
            0,
            "at least",
        )
        for name in STUDENTS
    ]
    conclude("distill", bars, seed=SEED, recover=RECOVER, jobs=found)


if __name__ == "__main__":
    main()
