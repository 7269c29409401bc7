"""Students that are built for a task, beside the same networks as their authors lay them out.

Three tasks: pictures of 32 × 32 pixels, spectra of speech, and text. A teacher is trained for each.
The engine builds a student of a named architecture and distils it, with all parameters as they are
by default; the width of one is left out and found for a share of the teacher's MACs. The same
network is written in PyTorch, with strides for such pictures, and trained alone, on labels, for as
many epochs on the same samples: with AdamW and one cycle of the learning rate, and with random
mirroring where that does no harm. Its peak rate is the one of two that does better on the test
samples, which is to its advantage. The engine does not see the test samples.

The teacher of pictures is a vision transformer, which is worse than the student can be alone.

Names of subjects on the command line choose among them.
"""

import sys
import time
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
        (0.003, 0.001),
    ),
}


def main() -> None:
    torch.set_num_threads(THREADS)
    rows, bars = dict[str, dict[str, Any]](), list[Bar]()
    for name in [case for case in CASES if case in sys.argv] or CASES:
        case = CASES[name]
        data = case.teacher.data
        teacher = trained(f"teacher of {name}", case.teacher, SEED)
        row: dict[str, Any] = {"teacher": tested(load(teacher), data)}
        wish = Distill.model_validate({"student": case.student, "recover": {"epochs": EPOCHS}})
        about = context(teacher, data, SEED)
        began = time.monotonic()
        outcome = distill(load(teacher), wish, about, lambda _done: None)
        row["student"] = outcome.layers[0].change.split("→ ")[1]
        row["seconds"] = time.monotonic() - began
        row["distilled"] = tested(outcome.model, data)
        width = float(row["student"].split()[-1])
        for rate in case.rates:
            subject = replace(
                case.teacher, make=partial(case.alone, width), epochs=EPOCHS, peak_rate=rate,
                augmentation=case.augmentation,
            )  # fmt: skip
            network = trained(f"{name}, alone", subject, SEED)
            row[f"alone, at {rate}"] = tested(load(network), data)
        row["alone"] = max(row[f"alone, at {rate}"] for rate in case.rates)
        print(name, row, flush=True)
        rows[name] = row
        bars.append(
            Bar(
                f"{name}: distilled above alone",
                "points",
                row["distilled"] - row["alone"],
                0,
                "at least",
            )
        )
    conclude("students", bars, seed=SEED, epochs=EPOCHS, rows=rows)


if __name__ == "__main__":
    main()
