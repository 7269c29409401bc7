"""A small student that learns from the trained network, against the same one on labels alone."""

from typing import Any

from benchmarks._report import Bar, conclude
from benchmarks._task import SEED, compress, row, show, trained

TEACHER = "resnet8"
STUDENTS: dict[str, dict[str, Any]] = {
    "derived, half width": {"derive": {"width": 0.5}},
    "shufflenet_v2, quarter width": {"architecture": "shufflenet_v2", "width": 0.25},
}
LOSSES: dict[str, list[dict[str, Any]]] = {
    "alone": [{"kind": "labels"}],
    "distilled": [{"kind": "labels"}, {"kind": "soft_targets"}],
}
RECOVER = {"epochs": 6}


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    for name, student in STUDENTS.items():
        for way, losses in LOSSES.items():
            step = {"method": "distill", "student": student, "losses": losses, "recover": RECOVER}
            found[f"{name}, {way}"] = row(compress(trained(TEACHER), [step]))
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
    conclude("distill", bars, seed=SEED, teacher=TEACHER, recover=RECOVER, jobs=found)


if __name__ == "__main__":
    main()
