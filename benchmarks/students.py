"""Students that are built for a task, beside the same networks as their authors lay them out.

Three tasks: pictures of 32 × 32 pixels, spectra of speech, and text. A teacher is trained for each.
The engine builds a student of a named architecture and distils it, with all parameters as they are
by default; the width of one is left out and found for a share of the teacher's MACs. The same
network is written in PyTorch, with strides for such pictures, and trained alone, on labels, for as
many epochs on the same samples: with AdamW and one cycle of the learning rate, and with random
mirroring of pictures. Where two peak rates are tried, the one that does better on the test samples
counts, which is to its advantage. The engine does not see the test samples.

The teacher of pictures is a vision transformer, which is worse than the student can be alone.

Names of subjects on the command line choose among them.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from app.domain.steps import Distill
from app.domain.steps.recover import Change
from benchmarks._classes import ALPHABET
from benchmarks._networks import Vit
from benchmarks._references import REFERENCES, Encoder
from benchmarks._report import Bar, conclude
from benchmarks._small import (
    THREADS,
    Letters,
    Subject,
    context,
    plain,
    tested,
    trained,
)
from workers.compression.graph.load import load
from workers.compression.methods.distill import distill

SEED = 0
EPOCHS = 8


@dataclass(frozen=True)
class Case:
    """A teacher and its student.

    Attributes:
        teacher: the network that is trained first.
        student: as users ask for it.
        alone: the same network in PyTorch, from its width.
        rates: the peak rates with which it is trained alone.
        augmentation: the changes of pictures with which it is trained alone.
    """

    teacher: Subject
    student: Mapping[str, Any]
    alone: Callable[[float], nn.Module]
    rates: tuple[float, ...]
    augmentation: tuple[Change, ...] = ()


CASES: Mapping[str, Case] = {
    "mobilenet_v2, images": Case(
        Subject("framed images", lambda: Vit(width=96, layers=4, channels=1), peak_rate=1e-3),
        {"architecture": "mobilenet_v2", "ratio": 0.7},
        lambda width: REFERENCES["mobilenet_v2"](10, width),
        (0.01,),
        ("flip",),
    ),
    "shufflenet_v2, audio": Case(
        Subject("audio", plain),
        {"architecture": "shufflenet_v2", "width": 0.25},
        lambda width: REFERENCES["shufflenet_v2"](4, width),
        (0.01, 0.003),
    ),
    "transformer, text": Case(
        Subject("text", Letters),
        {"architecture": "transformer", "width": 0.5},
        lambda width: Encoder(len(ALPHABET), 3, width, 128),
        (0.003,),
    ),
}


def main() -> None:
    torch.set_num_threads(THREADS)
    rows = dict[str, Mapping[str, Any]]()
    for name in [case for case in CASES if case in sys.argv] or CASES:
        rows[name] = measured(name, CASES[name])
        print(name, rows[name], flush=True)
    conclude("students", compared(rows), seed=SEED, epochs=EPOCHS, rows=rows)


def measured(name: str, case: Case) -> Mapping[str, Any]:
    """Return the accuracies on the test samples, in percent, and what was built."""
    data = case.teacher.data
    teacher = trained(f"teacher of {name}", case.teacher, SEED)
    wish = Distill.model_validate({"student": case.student, "recover": {"epochs": EPOCHS}})
    outcome = distill(load(teacher), wish, context(teacher, data, SEED), lambda _done: None)
    built = outcome.layers[0].change.split("→ ")[1]
    alone = dict[float, float]()
    for rate in case.rates:
        subject = replace(
            case.teacher, make=partial(case.alone, float(built.split()[-1])), epochs=EPOCHS,
            peak_rate=rate, augmentation=case.augmentation,
        )  # fmt: skip
        alone[rate] = tested(load(trained(f"{name}, alone", subject, SEED)), data)
    return {
        "teacher": tested(load(teacher), data),
        "student": built,
        "distilled": tested(outcome.model, data),
        "alone": max(alone.values()),
        "alone at each rate": alone,
    }


def compared(rows: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """Compare each distilled student with the same network alone."""
    return [
        Bar(
            f"{name}: distilled above alone",
            "points",
            row["distilled"] - row["alone"],
            0,
            "at least",
        )
        for name, row in rows.items()
    ]


if __name__ == "__main__":
    main()
