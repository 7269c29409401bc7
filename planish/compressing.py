"""``planish.compress``: from a file to a smaller one in one call."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from planish._arrays import Data
from planish._formats import require_name, suffix_of
from planish._requests import JobOptions, Step
from planish._sync.jobs import Job as Handle
from planish.client import Client
from planish.errors import Conflict, Invalid, Misnamed, PlanishError, Rejected, refusal
from planish.types import Job

Generated = Literal["generated"]
GENERATED: Generated = "generated"
"""In place of data: samples are made from the model."""

DEFAULT_STEPS: Sequence[Step] = ({"method": "quantize"},)
"""What is done where nothing is asked for: each layer gets the form that is measured to pay;
without data, weights are stored in eight bits."""


@dataclass(frozen=True)
class Compressed:
    """What came of it."""

    file: Path
    """The smaller model: as ``output`` says, but for an ONNX model of over 2 GiB, a ``.zip``."""
    job: Job
    """With the figures of both, ``baseline`` and ``compressed``, and the ``verdict`` in words."""
    report: dict[str, Any]
    """What was measured, on what, and how."""


def compress(
    model: str | Path,
    data: Data | Generated | None = None,
    *,
    max_quality_drop: float | None = None,
    steps: Sequence[Step] | None = None,
    targets: Any = None,
    output: str | Path | None = None,
    client: Client | None = None,
    progress: bool | None = None,
    on_job: Callable[[Job], None] | None = None,
    **options: Unpack[JobOptions],
) -> Compressed:
    """Compress a model by a service, and download the result.

    What was uploaded is deleted again where no job comes of it.

    Args:
        model: an ``.onnx`` file, or a zip or tar with external data.
        data: what to calibrate and measure with; the forms are those of ``datasets.upload``. Or
            ``"generated"``: samples are made from the model itself.
        max_quality_drop: what the result may lose, such as 0.01 for a point of accuracy.
        steps: what to do. Default: ``quantize``; with data each layer gets the form that pays,
            without data weights are stored in eight bits.
        targets: what the model should answer, as in ``datasets.upload``.
        output: where the result goes: a name, whose suffix says which of the formats that are
            delivered is meant; or a directory. Default: beside the model, as ``<name>.small.onnx``,
            or with the suffix of the first format.
        client: whose service to use. Default: one of its own, configured by the environment.
        progress: whether to show a bar. Default: where standard error is a terminal.
        on_job: called with the job once it is queued.
        options: the other fields of the job's request.

    Raises:
        Rejected: the model or the data cannot be used.
        Invalid: the job cannot be carried out; ``errors`` says why.
        Misnamed: ``output`` is called as a format that is not delivered.
        JobFailed: the job failed, by missing ``max_quality_drop`` for instance; or it was
            cancelled, which an interrupt (Ctrl-C) does.
    """
    source = Path(model)
    if steps is None and "objective" not in options:
        steps = DEFAULT_STEPS
    with contextlib.ExitStack() as own:
        if client is None:
            client = own.enter_context(Client())
        _require_possible(client, steps, _made(data), max_quality_drop, options)
        job = _submitted(client, source, data, targets, steps, max_quality_drop, options)
        try:
            if on_job is not None:
                on_job(job)
            if output:
                require_name(job.deliver, Path(output))
            job.wait(progress=progress)
        except KeyboardInterrupt:
            _cancel(job)
            job.wait(progress=False)
        except Misnamed:
            _cancel(job)
            raise
        return Compressed(_downloaded(job, source, output), job, job.report())


def _made(data: Data | Generated | None) -> Generated | None:
    """Return "generated" if samples are to be made from the model."""
    return GENERATED if isinstance(data, str) and data == GENERATED else None


def _submitted(
    client: Client,
    source: Path,
    data: Data | Generated | None,
    targets: Any,
    steps: Sequence[Step] | None,
    max_quality_drop: float | None,
    options: JobOptions,
) -> Handle:
    """Upload model and data, and create the job; what no job came of is deleted again."""
    with contextlib.ExitStack() as unused:
        uploaded = client.models.upload(source, wait=False)
        unused.callback(_forget, client.models.delete, uploaded.id)
        with _naming(source):
            uploaded = client.models.wait(uploaded)
        dataset = None
        if data is not None and not _made(data):
            dataset = client.datasets.upload(data, model=uploaded, targets=targets, wait=False)
            unused.callback(_forget, client.datasets.delete, dataset.id)
            with _naming(data if isinstance(data, str | Path) else "the data"):
                dataset = client.datasets.wait(dataset)
        job = client.jobs.create(
            uploaded,
            steps,
            dataset=dataset,
            data=_made(data),
            max_quality_drop=max_quality_drop,
            **options,
        )
        unused.pop_all()
    return job


def _downloaded(job: Handle, source: Path, output: str | Path | None) -> Path:
    """Download a job's first file: as ``output`` says, or beside the model."""
    target = Path(output) if output else _beside(source, job)
    try:
        return job.download(target)
    except Misnamed:  # an ONNX model of 2 GiB is a zip, which its job does not know before
        return job.download(target.with_suffix(suffix_of(job.artifacts[0])))


def _require_possible(
    client: Client,
    steps: Sequence[Step] | None,
    data: Generated | None,
    max_quality_drop: float | None,
    options: JobOptions,
) -> None:
    """Have the service say what is wrong with a request before it is sent a model.

    Raises:
        Invalid: more is wrong than that there is no model yet.
    """
    try:
        client.jobs.plan("", steps, data=data, max_quality_drop=max_quality_drop, **options)
    except Invalid as refused:
        faults = [fault for fault in refused.errors if fault.pointer != "#/model"]
        if len(faults) == len(refused.errors):
            raise
        if faults:
            said = {"errors": faults, "detail": " ".join(fault.detail for fault in faults)}
            raise refusal(refused.problem.model_copy(update=said)) from None


@contextlib.contextmanager
def _naming(upload: str | Path) -> Iterator[None]:
    """Call what is rejected as its owner does: its id goes with it."""
    try:
        yield
    except Rejected as rejected:
        raise Rejected(rejected.problem, str(upload)) from None


def _forget(delete: Callable[[str], None], upload: str) -> None:
    with contextlib.suppress(PlanishError):  # what has ended us is to be told; or a job has it
        delete(upload)


def _cancel(job: Handle) -> None:
    with contextlib.suppress(Conflict):  # it has just ended
        job.cancel()


def _beside(source: Path, job: Job) -> Path:
    """Return the place for a job's first file, whose format says what it is called."""
    suffix = suffix_of(job.artifacts[0]) if job.artifacts else ".onnx"
    return source.with_name(f"{source.stem}.small{suffix}")
