"""Two files beside each other: size, latency by turns, and how near their outputs are."""

from pathlib import Path

from app.domain.directory import ORIGINAL
from app.domain.jobs import Evaluate
from app.domain.problems import InvalidModel
from app.domain.reports import Evaluation, Frozen, Measures
from workers.compression import inputs
from workers.compression.events import Events
from workers.compression.graph.load import load
from workers.compression.graph.shapes import inputs_of
from workers.compression.intake.inspect import inspect_model
from workers.compression.measure import evaluation, verdict


class Compared(Frozen):
    """What two files measure; nearness is that of the second to the first."""

    first: Measures
    second: Measures
    evaluation: Evaluation
    verdict: str


def compare(first: Path, second: Path, data: Path | None, workspace: Path) -> Compared:
    """Measure two files as a job measures its result, here and unconfined.

    Args:
        first: a model's file as it may be uploaded, to compare with.
        second: one with the same inputs and outputs.
        data: a dataset for them, all of which is judged on; None: seeded random inputs.
        workspace: an empty directory.

    Raises:
        InvalidModel: one of them is no ONNX file, or they have other inputs or outputs.
        InvalidDataset, DatasetMismatch: the data is broken, or does not fit.
    """
    graphs = [_taken_in(file, workspace / name) for file, name in ((first, "1"), (second, "2"))]
    _require_same_face(*graphs)
    ground = inputs.judged_on(graphs[0], data, workspace)
    events = Events(workspace / "events.jsonl")
    measured = evaluation.evaluate(graphs[0], graphs[1:], ground, Evaluate(), events, None)
    before, after = (
        figures.model_copy(update={"size_bytes": file.stat().st_size})
        for figures, file in zip(
            (measured.baseline, *measured.graphs), (first, second), strict=True
        )
    )
    words = verdict.describe(
        before,
        after,
        [],
        None,
        measured.evaluation.latency,
        synthetic=ground.synthetic,
    )
    return Compared(first=before, second=after, evaluation=measured.evaluation, verdict=words)


def _taken_in(file: Path, directory: Path) -> Path:
    """Check a file as an upload is checked; return its graph, as an original is measured."""
    directory.mkdir()
    inspect_model(file, directory)
    return directory / ORIGINAL


def _require_same_face(first: Path, second: Path) -> None:
    models = [load(path) for path in (first, second)]
    for what, names in (
        ("inputs", [[value.name for value in inputs_of(model)] for model in models]),
        ("outputs", [[value.name for value in model.graph.outputs] for model in models]),
    ):
        if sorted(map(str, names[0])) != sorted(map(str, names[1])):
            raise InvalidModel(
                f"The files have other {what} ({names[0]} and {names[1]}): they cannot be compared."
            )
