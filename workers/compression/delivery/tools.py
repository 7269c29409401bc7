"""Formats that an external tool makes: writes its task, and reads its answer."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from app.domain.directory import (
    ANSWER,
    INPUTS,
    OUTPUTS,
    PROGRAM,
    TASK,
    ToolAnswer,
    ToolTask,
)
from app.domain.problems import DeliveryFailed
from app.domain.targets import TOOL_OF, OutputFormat
from workers.compression.delivery.exported import program
from workers.compression.delivery.form import Form, Made, Replay, Source, Waiting
from workers.compression.delivery.grids import Grids
from workers.compression.files import write_whole
from workers.compression.graph import runtime
from workers.compression.samples.context import Samples
from workers.compression.targets.runner import Runner

_MOST_BYTES = 256 << 20
"""The most bytes of the inputs of all runs."""
_GARBLED = "The tool gave an answer that cannot be read."


@dataclass(frozen=True)
class ToolFormat:
    """A format that a tool makes and runs."""

    name: OutputFormat
    runtime: str
    """The name of its runtime."""
    file: str
    """The name of the artifact."""
    grids: Grids
    """How its converter needs quantization written."""
    most_runs: int = 256
    """The most runs that it is judged on."""


def form(made: ToolFormat) -> Form:
    """Return the format of a tool."""
    return Form(made.runtime, None, partial(_make, made), TOOL_OF[made.name], waits=True)


def _make(made: ToolFormat, source: Source, directory: Path) -> Made | Waiting:
    tool, file = TOOL_OF[made.name], made.file
    answer = source.workspace / ANSWER
    if not answer.exists():
        if (failure := source.failures.get(tool)) is not None:
            raise DeliveryFailed(failure)
        _write_task(made, source)
        return Waiting(tool)
    reply = _read_answer(source)
    if reply.refused is not None:
        raise DeliveryFailed(f"{reply.runtime}: {reply.refused}")
    samples = _runs(made, source)
    artifact, outputs = directory / file, _outputs(source, samples)
    if reply.milliseconds is None or not artifact.is_file():
        raise DeliveryFailed(f"{reply.runtime} left no artifact.")
    runs = map(list, zip(*outputs, strict=True))
    replayed = Runner(reply.runtime, source.names, lambda _feeds: next(runs))
    latency_ms = reply.milliseconds / samples.layout.size
    return Made(artifact, lambda: replayed, replay=Replay(samples, latency_ms))


def _read_answer(source: Source) -> ToolAnswer:
    try:
        return ToolAnswer.model_validate_json((source.workspace / ANSWER).read_bytes())
    except ValidationError:
        raise DeliveryFailed(_GARBLED) from None


def _outputs(source: Source, samples: Samples) -> list[NDArray[Any]]:
    """Return the outputs of the tool's runs: an array for each output, ``[runs, …]``.

    Raises:
        DeliveryFailed: the arrays are missing, or their shapes are not those of the model's
            outputs.
    """
    session = runtime.open_session(source.graph, threads=source.threads)
    expected = session.run(source.names, source.feeds)
    count = -(-len(samples) // samples.layout.size)
    arrays = []
    for index, example in enumerate(expected):
        try:
            array = np.load(source.workspace / OUTPUTS / f"{index}.npy", allow_pickle=False)
        except (OSError, ValueError):
            raise DeliveryFailed(_GARBLED) from None
        if array.shape != (count, *np.shape(example)):
            raise DeliveryFailed(
                f"its output '{source.names[index]}' has the shape {list(array.shape[1:])}, not"
                f" {list(np.shape(example))}."
            )
        arrays.append(array)
    return arrays


def _write_task(made: ToolFormat, source: Source) -> None:
    """Write a task for the tool: the program to convert, and the inputs to run it on."""
    exported = program(source.graph, source.feeds, made.grids)
    torch.export.save(exported, source.workspace / PROGRAM)
    _write_inputs(_runs(made, source), source)
    task = ToolTask(
        format=made.name,
        file=made.file,
        outputs=len(source.names),
        threads=source.threads,
    )
    write_whole(source.workspace / TASK, task.model_dump_json())


def _runs(made: ToolFormat, source: Source) -> Samples:
    """Return the samples that a tool runs: for a few hundred runs, within a bound of bytes."""
    size = sum(array.nbytes for array in source.feeds.values())
    runs = max(1, min(made.most_runs, _MOST_BYTES // max(size, 1)))
    return source.held_out.draw(runs * source.held_out.layout.size, 0)


def _write_inputs(samples: Samples, source: Source) -> None:
    """Write the inputs of all runs, in the order of the graph's inputs."""
    inputs = source.workspace / INPUTS
    inputs.mkdir(exist_ok=True)
    runs = [feeds for feeds, _ in samples.runs()]
    for index, name in enumerate(source.feeds):
        np.save(inputs / f"{index}.npy", np.stack([feeds[name] for feeds in runs]))
