"""Formats that a tool makes: what it is given, and what its answer comes to."""

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
from app.domain.targets import ToolName
from workers.compression.delivery.exported import program
from workers.compression.delivery.form import Form, Made, Replay, Source, Waiting
from workers.compression.delivery.grids import Grids
from workers.compression.files import write_whole
from workers.compression.graph import runtime
from workers.compression.samples.context import Samples
from workers.compression.targets.runner import Runner

_MOST_RUNS = 256
_MOST_BYTES = 256 << 20
"""Of what all runs read."""
_GARBLED = "The tool gave an answer that cannot be read. Deliver 'onnx' instead."
_INTEGERS = "quantized_decomposed"


def form(tool: ToolName, runtime: str, file: str, grids: Grids) -> Form:
    """Return the format of a tool.

    Args:
        tool: what makes and runs it.
        runtime: the name of what runs it.
        file: the name of the artifact.
        grids: how its converter wants quantization.
    """
    return Form(runtime, None, partial(_make, tool, file, grids), tool)


def _make(
    tool: ToolName, file: str, grids: Grids, source: Source, directory: Path
) -> Made | Waiting:
    if (failure := source.failures.get(tool)) is not None:
        raise DeliveryFailed(f"{failure} Deliver 'onnx' instead.")
    answer = source.workspace / ANSWER
    if not answer.exists():
        _ask(tool, file, grids, source)
        return Waiting(tool)
    said = _said(source)
    if said.refused is not None:
        raise DeliveryFailed(f"{said.runtime}: {said.refused} Deliver 'onnx' instead.")
    samples = _runs(source)
    artifact, outputs = directory / file, _outputs(source, samples)
    if said.milliseconds is None or not artifact.is_file():
        raise DeliveryFailed(f"{said.runtime} left no artifact. Deliver 'onnx' instead.")
    runs = map(list, zip(*outputs, strict=True))
    replayed = Runner(said.runtime, source.names, lambda _feeds: next(runs))
    latency_ms = said.milliseconds / samples.layout.size
    return Made(artifact, lambda: replayed, replay=Replay(samples, latency_ms))


def _said(source: Source) -> ToolAnswer:
    try:
        return ToolAnswer.model_validate_json((source.workspace / ANSWER).read_bytes())
    except ValidationError:
        raise DeliveryFailed(_GARBLED) from None


def _outputs(source: Source, samples: Samples) -> list[NDArray[Any]]:
    """Return what the tool's runs gave: an array for each output, ``[runs, …]``.

    Raises:
        DeliveryFailed: it is not what runs of this model give.
    """
    session = runtime.open_session(source.graph, threads=source.threads)
    expected = session.run(source.names, source.feeds)
    count = -(-len(samples) // samples.layout.size)
    found = []
    for index, wanted in enumerate(expected):
        try:
            array = np.load(source.workspace / OUTPUTS / f"{index}.npy", allow_pickle=False)
        except (OSError, ValueError):
            raise DeliveryFailed(_GARBLED) from None
        if array.shape != (count, *np.shape(wanted)):
            raise DeliveryFailed(
                f"its output '{source.names[index]}' has the shape {list(array.shape[1:])}, not"
                f" {list(np.shape(wanted))}. Deliver 'onnx' instead."
            )
        found.append(array)
    return found


def _ask(tool: ToolName, file: str, grids: Grids, source: Source) -> None:
    """Leave a task, with the program to convert and what to run it on."""
    exported = program(source.graph, source.feeds, grids)
    torch.export.save(exported, source.workspace / PROGRAM)
    _leave(_runs(source), source)
    task = ToolTask(
        tool=tool,
        file=file,
        quantized=any(_INTEGERS in str(node.target) for node in exported.graph.nodes),
        outputs=len(source.names),
        threads=source.threads,
    )
    write_whole(source.workspace / TASK, task.model_dump_json())


def _runs(source: Source) -> Samples:
    """Return the samples that a tool runs: a few hundred runs, and not more than fit."""
    size = sum(array.nbytes for array in source.feeds.values())
    runs = max(1, min(_MOST_RUNS, _MOST_BYTES // max(size, 1)))
    return source.held_out.draw(runs * source.held_out.layout.size, 0)


def _leave(samples: Samples, source: Source) -> None:
    """Write what each run reads, in the order of the graph's inputs."""
    inputs = source.workspace / INPUTS
    inputs.mkdir(exist_ok=True)
    runs = [feeds for feeds, _ in samples.runs()]
    for index, name in enumerate(source.feeds):
        np.save(inputs / f"{index}.npy", np.stack([feeds[name] for feeds in runs]))
