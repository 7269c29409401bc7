"""One step: a graph on disk in, a checked graph and a report on disk out."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

from app.domain.directory import CHECKPOINT, GRAPH, PRICES, REPORT, FinishedStep
from app.domain.steps import Step
from workers.compression import faults
from workers.compression.files import write_whole
from workers.compression.graph import runtime
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.load import load, store, users_metadata
from workers.compression.graph.packing import packed
from workers.compression.graph.shapes import dimension_names
from workers.compression.methods import METHODS
from workers.compression.price_list import PriceList
from workers.compression.samples.context import Context, Feeds


def finished(directory: Path) -> FinishedStep | None:
    """Return the report of a finished step, None if it is not finished."""
    report = directory / REPORT
    if not report.exists():
        return None
    return FinishedStep.model_validate_json(report.read_bytes())


def run(
    before: Path, directory: Path, step: Step, context: Context, advance: Callable[[float], None]
) -> FinishedStep:
    """Run a step and store its graph, then its report.

    Args:
        before: the graph that the step reads.
        directory: the directory of the step.
        step: the parameters of the step.
        context: the samples, seed, device and workspace.
        advance: called with the fraction done.

    Raises:
        StepFailed: the step cannot be carried out, or its graph is not valid.
    """
    start, taken = time.monotonic(), len(context.known_times.taken)
    with faults.of_step(step.method):
        model = load(before)
        name_nodes(model)
        interface, metadata = _interface(model), users_metadata(model.metadata_props)
        shapes = [value.shape for value in model.graph.outputs]
        prices = _price_list(directory, step, model)
        outcome = METHODS[step.method](model, step, replace(context, prices=prices), advance)
        for value, shape in zip(outcome.model.graph.outputs, shapes, strict=False):
            value.shape = shape  # what the user declared, not what a library inferred
        for key, text in metadata.items():
            outcome.model.metadata_props.setdefault(key, text)
        directory.mkdir(parents=True, exist_ok=True)
        if context.has_time():  # in a hurry too little is measured
            prices.write(directory / PRICES)
        graph = directory / GRAPH
        store(packed(outcome.model), graph)
        model_before, model_after = load(before), load(graph)
        changed = fingerprint(model_after) != fingerprint(model_before)
        if not changed:
            store(packed(model_before), graph)  # names and metadata that a method added are dropped
        _check(graph, interface, context.example)
    done = FinishedStep(
        seconds=round(time.monotonic() - start, 3),
        layers=outcome.layers,
        skipped=outcome.skipped,
        changed=changed,
        settled=outcome.settled and context.has_time(),  # a deadline may have cut it short
        notes=[*outcome.notes, *context.known_times.note(taken), *prices.note()],
        kept=outcome.kept,
        choices=outcome.choices,
        prices=outcome.prices,
        other_prices=outcome.other_prices,
    )
    write_whole(directory / REPORT, done.model_dump_json())
    shutil.rmtree(directory / CHECKPOINT, ignore_errors=True)
    return done


def _price_list(directory: Path, step: Step, model: ir.Model) -> PriceList:
    """Return the list of what earlier jobs measured of the step's input; empty if it keeps none."""
    if step.priced is None:
        return PriceList()
    return PriceList.read(directory / PRICES, fingerprint(model).hex())


def _check(graph: Path, interface: list[tuple[str, str, list[str]]], example: Feeds) -> None:
    """Make sure that a graph is valid, runs, and kept its inputs and outputs.

    Raises:
        ValueError: its inputs or outputs have changed.
        Exception: an error of onnx or onnxruntime: the graph is not valid or does not run.
    """
    onnx.checker.check_model(str(graph))
    runtime.run(runtime.open_session(graph, optimize=True), example)
    if (actual := _interface(load(graph))) != interface:
        raise ValueError(f"inputs or outputs changed: {interface} → {actual}")


def _interface(model: ir.Model) -> list[tuple[str, str, list[str]]]:
    """Return name, dtype and dimensions of each input and output."""
    return [
        (str(value.name), str(value.dtype), dimension_names(value))
        for value in (*model.graph.inputs, *model.graph.outputs)
    ]
