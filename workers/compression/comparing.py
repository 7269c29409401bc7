"""Compares two files: size, latency in turn, and how near their outputs are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.directory import ORIGINAL
from app.domain.frozen import Frozen
from app.domain.jobs import Evaluate
from app.domain.models import ModelDescription, TensorSpec
from app.domain.percentages import percent
from app.domain.problems import InvalidModel, Problem
from app.domain.reports import Evaluation, Measures
from workers.compression import inputs
from workers.compression.events import Events
from workers.compression.intake.inspect import inspect_model
from workers.compression.measure import evaluation, verdict


class Compared(Frozen):
    """The figures of two files; fidelity is that of the second to the first."""

    first: Measures
    second: Measures
    evaluation: Evaluation
    verdict: str

    def beyond(self, max_drop: float | None, max_slowdown: float | None) -> list[str]:
        """Return, in words, where the second file is worse than it may be.

        Args:
            max_drop: in the unit of ``max_quality_drop`` of a job.
            max_slowdown: 0.1 allows a tenth more time. The far end of the interval counts: what
                may be noise is no fault.
        """
        faults = []
        if max_drop is not None and verdict.exceeds(self.first, self.second, max_drop):
            said = verdict.missed(self.first, self.second, max_drop, "the bound")
            faults.append(f"{said}.")
        latency = self.evaluation.latency
        if max_slowdown is not None and latency is not None:
            slowdown = 1 / (latency.speedup_high or latency.speedup) - 1
            if slowdown > max_slowdown:
                faults.append(
                    f"It is at least {percent(slowdown, 1)} slower, and may be"
                    f" {percent(max_slowdown, 1)} slower."
                )
        return faults


def compare(
    first: Path,
    second: Path,
    data: Path | None,
    workspace: Path,
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Compared:
    """Measure two files as a job measures its result, in this process, without confinement.

    Args:
        first: the reference, a model's file as it may be uploaded.
        second: a file with the same inputs and outputs.
        data: a dataset for them, used as a whole; None draws seeded random inputs.
        workspace: an empty directory.
        on_stage: called with what is being done, now and then.

    Raises:
        InvalidModel: one of them is no ONNX file, or their inputs or outputs differ.
        InvalidDataset, DatasetMismatch: the data is broken, or does not fit.
    """
    on_stage("reading the files")
    directories = [workspace / name for name in ("1", "2")]
    known = [
        _inspected(file, directory)
        for file, directory in zip((first, second), directories, strict=True)
    ]
    _require_same_interface(*known)
    graphs = [directory / ORIGINAL for directory in directories]
    with _naming(data):
        evaluation_set = inputs.evaluation_set_of(graphs[0], data, workspace)
    events = Events(workspace / "events.jsonl", on_stage=on_stage)
    measured = evaluation.evaluate(graphs[0], graphs[1:], evaluation_set, Evaluate(), events, None)
    before, after = (
        figures.model_copy(update={"size_bytes": file.stat().st_size})
        for figures, file in zip(
            (measured.baseline, *measured.graphs), (first, second), strict=True
        )
    )
    words = verdict.describe(before, after, [], None, measured.evaluation)
    return Compared(first=before, second=after, evaluation=measured.evaluation, verdict=words)


def _inspected(file: Path, directory: Path) -> ModelDescription:
    """Check and describe a file as an upload; its self-contained graph is left in ``directory``."""
    directory.mkdir()
    with _naming(file):
        return inspect_model(file, directory)


@contextmanager
def _naming(file: Path | None) -> Iterator[None]:
    """Name the file, which is one of three, in the problem that it has."""
    try:
        yield
    except Problem as problem:
        raise type(problem)(f"{file}: {problem.detail}" if file else problem.detail) from None


def _require_same_interface(first: ModelDescription, second: ModelDescription) -> None:
    for side, of_first, of_second in (
        ("inputs", first.inputs, second.inputs),
        ("outputs", first.outputs, second.outputs),
    ):
        names = [[spec.name for spec in specs] for specs in (of_first, of_second)]
        if sorted(names[0]) != sorted(names[1]):
            raise InvalidModel(
                f"The files cannot be compared, because their {side} differ: {names[0]} and"
                f" {names[1]}."
            )
    others = {spec.name: spec for spec in second.inputs}
    for spec in first.inputs:
        if not _takes_the_same(spec, other := others[spec.name]):
            raise InvalidModel(
                f"The files cannot be compared, because they read other arrays as '{spec.name}':"
                f" {_in_words(spec)} and {_in_words(other)}."
            )


def _takes_the_same(first: TensorSpec, second: TensorSpec) -> bool:
    """Return whether an array may be an input of both; no shape is one that is not known."""
    if first.dtype != second.dtype:
        return False
    if not first.shape or not second.shape:
        return True
    return len(first.shape) == len(second.shape) and all(
        one == other or isinstance(one, str) or isinstance(other, str)
        for one, other in zip(first.shape, second.shape, strict=True)
    )


def _in_words(spec: TensorSpec) -> str:
    return f"{spec.dtype}[{', '.join(map(str, spec.shape))}]"
