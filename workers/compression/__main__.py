"""Runs a job directory: ``python -m workers.compression DIR``.

The directory holds ``job.json`` (an ``Order``) and its inputs; by hand, ``upload`` and ``dataset``
are enough. The outcome is written to ``result.json``; see ``app/domain/directory.py``.
"""

import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.domain.directory import (
    EVENTS,
    ORDER,
    RESULT,
    UPLOAD,
    Compress,
    Describe,
    InspectDataset,
    InspectModel,
    MeasureSensitivity,
    Order,
    Result,
)
from app.domain.problems import Invalid, MemoryLimit, Problem
from workers.compression import faults
from workers.compression.events import Events
from workers.compression.files import write_whole

_ORDERS: TypeAdapter[InspectModel | InspectDataset | Compress | MeasureSensitivity | Describe] = (
    TypeAdapter(Order)
)


def main(directory: Path) -> int:
    """Carry out the order in a job directory and write ``result.json``, last and whole.

    Every error becomes a problem in the result. The exceptions are a full disk, on which no result
    can be written, and a crash of a native library.

    Returns:
        0, the process's exit code.

    Raises:
        OSError: the directory is full.
    """
    directory = directory.absolute()
    events = Events(directory / EVENTS, echo=sys.stderr.isatty())
    try:
        result = _checked(_run(directory, events))
    except Exception as error:  # noqa: BLE001 (whatever it is, the user is told)
        result = Result(problem=_problem(error, events.stage).details())
    write_whole(directory / RESULT, result.model_dump_json(indent=1))
    return 0


def _problem(error: Exception, stage: str) -> Problem:
    """Return the problem that describes an error to the user.

    Raises:
        OSError: the error itself, where the directory is full.
    """
    if isinstance(error, Problem):
        return error
    if faults.is_out_of_memory(error):
        faults.log(error)
        return MemoryLimit(
            "The engine needed more memory than there is. Use a smaller model, or fewer samples at"
            " a time."
        )
    if faults.is_limit(error):
        raise error
    return faults.at_stage(stage, error)


def _checked(result: Result) -> Result:
    """Return a result after checking that it reads back as it was written, as a worker requires.

    Raises:
        ValueError: it holds NaN or infinity, which JSON cannot express.
    """
    if Result.model_validate_json(result.model_dump_json()) != result:
        raise ValueError("the result does not read back as it was written")
    return result


def _run(directory: Path, events: Events) -> Result:
    """Carry out the order; heavy imports stand where they are needed."""
    order = _read_order(directory)
    if isinstance(order, Describe):
        from workers.compression import delivery
        from workers.compression.measure.machine import capabilities

        return Result(capabilities=capabilities(delivery.runtimes()))
    if isinstance(order, InspectModel):
        from workers.compression.heap import return_large_blocks
        from workers.compression.intake.inspect import inspect_model

        return_large_blocks()
        events.progress(0.0, "reading the model")
        return Result(model=inspect_model(directory / UPLOAD, directory, order=order))
    if isinstance(order, InspectDataset):
        from workers.compression.intake.datasets import inspect_dataset

        events.progress(0.0, "reading the dataset")
        return Result(dataset=inspect_dataset(directory / UPLOAD))
    if isinstance(order, MeasureSensitivity):
        from workers.compression.charting import chart

        return chart(directory, order, events)
    from workers.compression.measure.memory import prober

    with prober() as peak:
        from workers.compression.pipeline import compress  # a library of it starts a thread

        return compress(directory, order, events, peak)


def _read_order(
    directory: Path,
) -> InspectModel | InspectDataset | Compress | MeasureSensitivity | Describe:
    try:
        return _ORDERS.validate_json((directory / ORDER).read_bytes())
    except OSError as error:
        raise Invalid(
            f"There is no readable {ORDER} in {directory.name}: {error.strerror}."
        ) from None
    except ValidationError as error:
        raise Invalid(f"{ORDER} is not an order: {error}") from None


def _show(directory: Path) -> int:
    """Print a result for a person; 1 if the run ended in a problem."""
    result = Result.model_validate_json((directory / RESULT).read_bytes())
    if result.report is not None:
        before, after = result.report.baseline, result.report.compressed
        for name in ("size_bytes", "parameters", "macs", "latency_ms", "peak_memory_bytes"):
            print(f"{name:20} {getattr(before, name)} → {getattr(after, name)}", file=sys.stderr)
        print(result.report.verdict, file=sys.stderr)
    elif result.problem is None:
        print(result.model_dump_json(indent=1, exclude_defaults=True), file=sys.stderr)
    if result.problem is not None:
        print(f"{result.problem.title}: {result.problem.detail}", file=sys.stderr)
    return 0 if result.problem is None else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m workers.compression DIR")
    job = Path(sys.argv[1]).absolute()
    sys.exit(main(job) or (_show(job) if sys.stderr.isatty() else 0))
