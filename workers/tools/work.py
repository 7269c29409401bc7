"""What every tool does in its own Python: convert, run all that the engine left, time it, answer.

Only the conversion and the runtime differ; see ``litert``.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.directory import (
    ANSWER,
    ARTIFACTS,
    DELIVERY,
    INPUTS,
    ORIGINAL,
    OUTPUTS,
    PROGRAM,
    TASK,
    ToolAnswer,
    ToolTask,
)
from app.domain.targets import OutputFormat
from workers.tools.culprit import first_refused

Arrays = list[NDArray[Any]]

_SECONDS = 4.0
"""Of timed runs."""
_SAID = 600
_SEARCHED = 30.0
"""Seconds that a refusal may take for its node to be searched: a beginning may take as long."""


class Refused(Exception):  # noqa: N818 (as the problems of app.domain are named)
    """A converter does not take the model; the text says why, to users."""


class RefusedOperator(Refused):
    """It does not take an operator of the model."""


@dataclass(frozen=True)
class Converter:
    """How a tool makes and runs one format."""

    runtime: str
    """Its name and version."""
    convert: Callable[[Any, ToolTask, Path], None]
    """From an exported program to the artifact."""
    open: Callable[[Path, ToolTask], Callable[[Arrays], Arrays]]
    """From an artifact to what runs it: from inputs to outputs, in the graph's order."""


def work(directory: Path, converters: Mapping[OutputFormat, Converter]) -> int:
    """Do each task for these formats that has no answer yet; 0 where each has one then."""
    for task in sorted((directory / DELIVERY).glob(f"*/{TASK}")):
        asked = ToolTask.model_validate_json(task.read_bytes())
        if asked.format in converters and not (task.parent / ANSWER).exists():
            answer = _do(directory, task.parent, asked, converters[asked.format])
            (task.parent / ANSWER).write_text(answer.model_dump_json())
    return 0


def _do(directory: Path, own: Path, task: ToolTask, converter: Converter) -> ToolAnswer:
    import torch
    import torch.ao.quantization.fx._decomposed  # registers the operators of rounding

    from workers.compression.faults import is_limit, sentence

    torch.set_num_threads(task.threads)
    artifact = directory / ARTIFACTS / task.file
    runs, began = list(_runs(own)), time.monotonic()

    def opened(program: Any) -> Callable[[Arrays], Arrays]:
        converter.convert(program, task, artifact)
        return converter.open(artifact, task)

    try:
        run = opened(torch.export.load(own / PROGRAM))
        found = [run(arrays) for arrays in runs]
    except Exception as error:  # whatever a converter raises is its refusal
        if is_limit(error):
            raise
        refused = sentence(_why(error, None), _SAID)
        answer = ToolAnswer(runtime=converter.runtime, refused=refused)
        if time.monotonic() - began < _SEARCHED:
            # What ends the process in the search takes no answer away.
            (own / ANSWER).write_text(answer.model_dump_json())
            node = _culprit(error, own, lambda beginning: opened(beginning)(runs[0]))
            refused = sentence(_why(error, node), _SAID)
        artifact.unlink(missing_ok=True)
        return answer.model_copy(update={"refused": refused})
    (own / OUTPUTS).mkdir(exist_ok=True)
    for index in range(task.outputs):
        np.save(own / OUTPUTS / f"{index}.npy", np.stack([each[index] for each in found]))
    took = _milliseconds(directory / ORIGINAL, runs[0], run, task.threads)
    return ToolAnswer(runtime=converter.runtime, milliseconds=took)


def _culprit(error: Exception, own: Path, attempt: Callable[[Any], object]) -> str | None:
    """Return the node for which a model is refused; None where there is none, or it is not found.

    Args:
        error: what the whole program raised.
        own: the directory of the task.
        attempt: converts and runs a program; it raises where that is refused.
    """
    import torch

    if isinstance(error, Refused) and not isinstance(error, RefusedOperator):
        return None
    reason = _reason(error)

    def is_refused(beginning: Any) -> bool:
        try:
            attempt(beginning)
        except Exception as other:  # noqa: BLE001 (converters raise errors of any class)
            return _reason(other) == reason
        return False

    with suppress(Exception):  # the reason is told without the node then
        return first_refused(torch.export.load(own / PROGRAM), is_refused)
    return None


def _reason(error: Exception) -> tuple[type, str]:
    """Return what errors have in common that are raised of one operator, wherever that is."""
    from workers.compression.faults import refusal

    said = str(error) if isinstance(error, Refused) else refusal(error)
    return type(error), re.sub(r"\d+", "", said)


def _why(error: Exception, node: str | None) -> str:
    """Return why a model is refused, and the node at which it is, if that is known."""
    from workers.compression.faults import note_node, refusal, sentence

    if isinstance(error, Refused):
        return (
            f"{sentence(error, _SAID)} The operator is node {node} of the model."
            if node
            else str(error)
        )
    if node:
        note_node(error, node)
    return f"the converter refuses: {refusal(error)}"


def _runs(own: Path) -> Iterator[Arrays]:
    """Yield what each run reads."""
    inputs = sorted((own / INPUTS).glob("*.npy"), key=lambda path: int(path.stem))
    arrays = [np.load(path, allow_pickle=False) for path in inputs]
    for each in zip(*arrays, strict=True):
        yield [np.asarray(array) for array in each]  # a scalar of an array is none itself


def _milliseconds(
    original: Path, arrays: Arrays, run: Callable[[Arrays], Arrays], threads: int
) -> float:
    """Return the median of one run in milliseconds, by turns with the original's."""
    from workers.compression.measure import clock, turns
    from workers.compression.targets import onnx

    session = onnx.open_session(original, threads)
    names = [value.name for value in session.get_inputs()]
    feeds = dict(zip(names, arrays, strict=True))
    timers = [
        clock.timer(session, feeds, threads),
        turns.timed(lambda: run(arrays), threads),
    ]
    return turns.by_turns(timers, _SECONDS).spread(1, 1).median
