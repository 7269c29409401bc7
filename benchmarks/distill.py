"""Compact students of a network that has seen ten times their images, beside the same ones alone.

That is how it is where a model is compressed by others than those who trained it: they have the
model, and a sample of the data. A student alone learns from labels.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, compress, row, show, teacher, tested

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
    found: dict[str, dict[str, float]] = {}
    for name, student in STUDENTS.items():
        for way, losses in LOSSES.items():
            step = {"method": "distill", "student": student, "losses": losses, "recover": RECOVER}
            found[f"{name}, {way}"] = learned(step)
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


def learned(step: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a student; it and its teacher are judged on the test images."""
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
        student = Path(scratch) / "student.onnx"
        figures = row(compress(teacher(), [step], keep=student))
        return figures | {"accuracy": tested(student), "original_accuracy": tested(teacher())}


if __name__ == "__main__":
    main()
