"""From the last graph of a job to a file in each format that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.domain.directory import ARTIFACTS, Produced, delivery_directory
from app.domain.problems import DeliveryFailed
from app.domain.reports import ArtifactFigures
from app.domain.targets import OutputFormat
from workers.compression.delivery import FORMS
from workers.compression.delivery.form import Made, Source
from workers.compression.graph.load import load
from workers.compression.measure.evaluation import Ground


@dataclass(frozen=True)
class Delivered:
    """What became of the formats that were asked for."""

    made: dict[OutputFormat, Made]
    failed: dict[OutputFormat, DeliveryFailed]
    """Why there is no file."""


def make(formats: Sequence[OutputFormat], graph: Path, root: Path, ground: Ground) -> Delivered:
    """Write the graph in each format.

    Args:
        formats: those asked for, once each.
        graph: the result, on disk.
        root: the job's directory.
        ground: what the graph will be judged on.
    """
    delivered = Delivered({}, {})
    directory = root / ARTIFACTS
    directory.mkdir(exist_ok=True)
    for name in formats:
        try:
            delivered.made[name] = FORMS[name].make(_source(graph, ground, root, name), directory)
        except DeliveryFailed as problem:
            delivered.failed[name] = problem
    return delivered


def produced(
    delivered: Delivered, figures: dict[OutputFormat, ArtifactFigures], directory: Path
) -> list[Produced]:
    """Put files and figures together; paths are below ``directory``."""
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
    return DeliveryFailed(f"{words} The other artifacts are there.")


def _source(graph: Path, ground: Ground, root: Path, name: OutputFormat) -> Source:
    workspace = delivery_directory(root, name)
    workspace.mkdir(parents=True, exist_ok=True)
    return Source(
        graph=graph,
        workspace=workspace,
        feeds=ground.samples.first_run(),
        names=[str(value.name) for value in load(graph).graph.outputs],
        threads=ground.threads,
    )
