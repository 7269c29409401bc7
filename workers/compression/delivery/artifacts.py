"""Writes the last graph of a job in each requested format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.domain.directory import ARTIFACTS, Produced, delivery_directory
from app.domain.problems import DeliveryFailed, Problem
from app.domain.reports import ArtifactFigures
from app.domain.targets import OutputFormat, ToolName
from workers.compression import faults
from workers.compression.delivery import FORMS
from workers.compression.delivery.form import Made, Source, Upload, Waiting
from workers.compression.graph.load import load
from workers.compression.graph.shapes import inputs_of
from workers.compression.measure.evaluation_set import EvaluationSet


@dataclass(frozen=True)
class Delivered:
    """The outcome for each requested format."""

    made: dict[OutputFormat, Made]
    failed: dict[OutputFormat, DeliveryFailed]
    """The problem of each format that could not be written."""
    waiting: list[ToolName]
    """The tools that must run before the remaining formats can be written."""


def make(
    formats: Sequence[OutputFormat],
    graph: Path,
    result: Path,
    root: Path,
    evaluation_set: EvaluationSet,
    failures: Mapping[ToolName, str],
    upload: Upload | None = None,
) -> Delivered:
    """Write the graph in each format; where tools have yet to run, nothing but their tasks.

    Args:
        formats: the requested formats, each once.
        graph: the result in normal form.
        result: the result as an ONNX file for users.
        root: the job's directory.
        evaluation_set: the samples that the graph will be judged on.
        failures: for each tool that ran without an answer, the reason.
        upload: the upload whose layers the graph has; None if that is ONNX.
    """
    outcomes: dict[OutputFormat, Made | Waiting | DeliveryFailed] = {}
    directory = root / ARTIFACTS
    directory.mkdir(exist_ok=True)
    model, first = load(graph), evaluation_set.samples.first_run()
    for name in sorted(formats, key=lambda each: not FORMS[each].waits):
        if not FORMS[name].waits and any(isinstance(o, Waiting) for o in outcomes.values()):
            break  # the engine runs again after the tools, and makes these then
        source = Source(
            graph=graph,
            result=result,
            workspace=delivery_directory(root, name),
            feeds={str(value.name): first[str(value.name)] for value in inputs_of(model)},
            names=[str(value.name) for value in model.graph.outputs],
            threads=evaluation_set.threads,
            held_out=evaluation_set.samples,
            failures=failures,
            upload=upload,
        )
        source.workspace.mkdir(parents=True, exist_ok=True)
        outcomes[name] = _outcome(name, source, directory)
    return _delivered({name: outcomes[name] for name in formats if name in outcomes})


def _outcome(
    name: OutputFormat, source: Source, directory: Path
) -> Made | Waiting | DeliveryFailed:
    """Write the graph in one format."""
    try:
        return FORMS[name].make(source, directory)
    except Exception as error:
        if faults.is_limit(error):
            raise
        return _failure(name, error)


def _delivered(outcomes: Mapping[OutputFormat, Made | Waiting | DeliveryFailed]) -> Delivered:
    """Sort the outcomes by what they are; each tool is named once."""
    delivered = Delivered({}, {}, [])
    for name, outcome in outcomes.items():
        if isinstance(outcome, Made):
            delivered.made[name] = outcome
        elif isinstance(outcome, DeliveryFailed):
            delivered.failed[name] = outcome
        elif outcome.tool not in delivered.waiting:
            delivered.waiting.append(outcome.tool)
    return delivered


def _failure(name: OutputFormat, error: Exception) -> DeliveryFailed:
    """Return the problem of a format that could not be written."""
    if isinstance(error, DeliveryFailed):
        return error
    if isinstance(error, Problem):
        return DeliveryFailed(error.detail)
    faults.log(error)
    return DeliveryFailed(
        f"the result could not be written as {name}. This is a fault of ours: please report it with"
        " this job's id."
    )


def produced(
    delivered: Delivered, figures: dict[OutputFormat, ArtifactFigures], directory: Path
) -> list[Produced]:
    """Return each file with its figures; paths are relative to ``directory``."""
    return [
        Produced(
            format=name,
            path=str(made.file.relative_to(directory)),
            **figures[name].model_dump(),
        )
        for name, made in delivered.made.items()
    ]


def shortfall(delivered: Delivered) -> DeliveryFailed | None:
    """Return the problem of a job that could not write every format; None where it could."""
    if not delivered.failed:
        return None
    words = " ".join(f"'{name}': {problem.detail}" for name, problem in delivered.failed.items())
    asked = {*delivered.made, *delivered.failed}
    refused = ", ".join(f"'{name}'" for name in delivered.failed)
    instead = "Deliver 'onnx', which takes every result. "
    if "onnx" in asked:
        instead = f"Leave {refused} out of 'deliver', or upload a model without what is named. "
    others = "The other artifacts are there." if delivered.made else ""
    return DeliveryFailed(f"{words} {instead}{others}".rstrip())
