"""Times a file against the original by turns, in a process apart: a file may crash its runtime.

``python -m planish.agent.timing`` reads an order on standard input and prints what it measured.
"""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from planish._packages import package
from planish.agent.heartbeat import Heartbeat
from planish.types import Comparison, RunInput, TimedRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECONDS = 12.0
"""The most that a file is run for, by turns; less where the ratio is certain before."""

MOST_SECONDS = 600.0
"""After which a file counts as one that the device cannot time."""

LONGEST_SECONDS = MOST_SECONDS / 2
"""The most that ``seconds`` may be: loading and warming up take time too."""

_LOOK_SECONDS = 0.2
_SAID = 300


class NotTimed(Exception):  # noqa: N818 (it says what happened)
    """A file could not be timed; the message says why."""


class Order(BaseModel):
    """What the process apart is to time."""

    original: Path
    candidate: Path
    run: TimedRun
    threads: int
    seconds: float
    """The most that the files are run for, together."""


def apart(order: Order, heartbeat: Heartbeat) -> Comparison:
    """Return how a file compares with the original on this device.

    Raises:
        NotTimed: the files do not run here, or take too long.
    """
    command = [sys.executable, "-m", "planish.agent.timing"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace"
    ) as process:
        try:
            printed, said = _talk(process, order.model_dump_json(), heartbeat)
        finally:
            process.kill()
    if process.returncode != 0:
        words = " ".join(said.split())[-_SAID:] or f"it ended with {process.returncode}"
        raise NotTimed(f"The file does not run on this device: {words}")
    try:
        return Comparison.model_validate_json(printed)
    except ValidationError as error:
        raise NotTimed("The timing process printed no comparison.") from error


def _talk(process: "subprocess.Popen[str]", order: str, heartbeat: Heartbeat) -> tuple[str, str]:
    """Give the process its order; return what it printed and said."""
    end = time.monotonic() + MOST_SECONDS
    given: str | None = order
    while True:
        try:
            return process.communicate(given, timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            given = None
        if heartbeat.lost.is_set():
            raise NotTimed("The measurement was deleted, or given to another agent.")
        if time.monotonic() > end:
            raise NotTimed(f"Timing took more than {MOST_SECONDS:g} seconds.")


def compare(order: Order) -> dict[str, Any]:
    """Time the original and the candidate by turns, as the service's workers do."""
    from workers.compression.measure import turns

    ort = package("onnxruntime", "numpy")
    feeds = {each.name: _drawn(each) for each in order.run.inputs}
    timers = []
    for path in (order.original, order.candidate):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = order.threads, 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        session = ort.InferenceSession(str(path), options, providers=providers)
        timers.append(turns.timed(partial(session.run, None, feeds), order.threads))
    compared = turns.comparison(turns.by_turns(timers, order.seconds), order.run.samples)
    return compared.model_dump(mode="json")


def _drawn(wanted: RunInput) -> "NDArray[Any]":
    """Return a seeded array like the one that the service timed: only its values differ."""
    import numpy as np

    random = np.random.default_rng(0)
    drawn: NDArray[Any] = random.standard_normal(wanted.shape)
    kind = np.dtype(wanted.dtype).kind
    if kind in "iub":
        below = 2 if kind == "b" else wanted.below or 1
        drawn = random.integers(0, below, wanted.shape)
    return drawn.astype(wanted.dtype)


if __name__ == "__main__":
    print(json.dumps(compare(Order.model_validate_json(sys.stdin.read()))))
