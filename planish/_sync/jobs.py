# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""``client.jobs``, and the handle of a job."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

from pydantic import ConfigDict, PrivateAttr

from planish import types
from planish._formats import chosen, require_fitting
from planish._requests import JobOptions, Step, id_of, job_body
from planish._sync import io
from planish._sync.download import download
from planish._sync.http import Transport
from planish._sync.stream import follow
from planish.errors import JobFailed, PlanishError
from planish.progress import bar
from planish.types import Artifact, Dataset, Event, Measurement, Model, Plan

OnEvent = Callable[[Event], None]

_LOOK_S = 1.0
"""Between streams of events that have ended, of a job that has not."""


class Job(types.Job):
    """A job as it was when last looked at, and what can be done with it.

    ``wait`` and ``refresh`` bring its fields up to date.
    """

    model_config = ConfigDict(frozen=False)

    _jobs: "Jobs" = PrivateAttr()

    def refresh(self) -> Self:
        """Look at the job again; return it."""
        return self._become(self._jobs.get(self.id))

    def wait(self, *, on_event: OnEvent | None = None, progress: bool | None = None) -> Self:
        """Return the job once it has succeeded.

        A service that is away meanwhile, as in a restart, is waited for: for the client's
        ``patience_s``, five minutes by default.

        Args:
            on_event: called with each event, as it happens.
            progress: whether to show a bar. Default: where standard error is a terminal.

        Raises:
            JobFailed: the job failed or was cancelled; ``problem`` says why.
            Unreachable: the service stayed away; the job may go on, and be awaited again.
        """
        return self._become(self._jobs.wait(self, on_event=on_event, progress=progress))

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """Yield the job's events, from the one after ``after``, until it has ended.

        An outage of the service is sat out as in ``wait``.
        """
        return self._jobs.events(self, after=after)

    def cancel(self) -> Self:
        """Ask the job to stop; it is ``cancelled`` within seconds."""
        return self._become(self._jobs.cancel(self))

    def retry(self) -> Self:
        """Queue the job again after it failed or was cancelled; its finished steps are kept."""
        return self._become(self._jobs.retry(self))

    def front(self) -> types.Front:
        """Return what a search has found so far."""
        return self._jobs.front(self)

    def take(self, point: types.SearchPoint | str) -> "Job":
        """Return a job of its own with the result of a point of a search; nothing runs."""
        return self._jobs.take(self, point)

    def measurements(self) -> Iterator[Measurement]:
        """Yield what devices measured of the job's files, or are to measure, newest first."""
        return self._jobs.measurements(self)

    def report(self) -> dict[str, Any]:
        """Return what was measured, on what, and how."""
        return self._jobs.report(self)

    def report_page(self) -> str:
        """Return the report as one HTML page that needs nothing else."""
        return self._jobs.report_page(self)

    def download(self, to: str | Path, *, format: str | None = None) -> Path:  # noqa: A002
        """Download a file that the job made; it is then whole and verified, or not there.

        Args:
            to: its name; or a directory, where it has the name that the service gives it.
            format: which of the job's files, such as ``onnx``. Default: the first whose suffix
                ``to`` has, such as the ONNX file for ``smaller.onnx``; else the first.

        Raises:
            CorruptDownload: the bytes are not those that were announced.
            PlanishError: the job has no such file.
            Misnamed: ``to`` is called as another format.
        """
        if not self.artifacts:
            self.refresh()
        offered = [each for each in self.artifacts if format in {None, each.format}]
        if not offered:
            raise PlanishError(f"{self.id} is {self.status} and has no {format or 'finished'} file")
        return self._jobs.download(chosen(offered, Path(to)), to)

    def delete(self) -> None:
        """Delete the finished job with its files."""
        self._jobs.delete(self)

    def _become(self, now: types.Job) -> Self:
        for field in types.Job.model_fields:
            setattr(self, field, getattr(now, field))
        return self


class Jobs:
    """The jobs; called, it yields them."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def __call__(
        self,
        *,
        status: str | None = None,
        model: Model | str | None = None,
        tag: str | None = None,
        parent: types.Job | str | None = None,
    ) -> Iterator[Job]:
        """Yield jobs, newest first."""
        return self.list(status=status, model=model, tag=tag, parent=parent)

    def list(
        self,
        *,
        status: str | None = None,
        model: Model | str | None = None,
        tag: str | None = None,
        parent: types.Job | str | None = None,
    ) -> Iterator[Job]:
        """Yield jobs, newest first: all, or those in a state, of a model, with a tag.

        Trials of a search are left out, unless ``parent`` names it.
        """
        wanted = {
            "status": status,
            "model": id_of(model) if model else None,
            "tag": tag,
            "parent": id_of(parent) if parent else None,
        }
        for item in self._http.items("/v1/jobs", **wanted):
            yield self._handle(Job.model_validate(item))

    def create(
        self,
        model: Model | str,
        steps: Sequence[Step] | None = None,
        *,
        dataset: Dataset | str | None = None,
        data: str | None = None,
        max_quality_drop: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Submit a job; it is queued when this returns.

        Args:
            model: what to compress.
            steps: what to do with it, in order; or give an ``objective``.
            dataset: what to calibrate and measure with.
            data: ``"generated"``, in place of a dataset: samples are made from the model.
            max_quality_drop: what the result may lose; the same as in ``require``.
            idempotency_key: calls with the same one make one job. Default: a new one.
            options: the other fields of the request. A model or dataset may stand for its id, as in
                ``evaluate={"dataset": new_samples}``.

        Raises:
            Invalid: fields of the request are wrong; ``errors`` says which.
        """
        body = job_body(model, steps, dataset, data, max_quality_drop, options)
        return self._handle(self._http.post("/v1/jobs", Job, body, idempotency_key=idempotency_key))

    def plan(
        self,
        model: Model | str,
        steps: Sequence[Step] | None = None,
        *,
        dataset: Dataset | str | None = None,
        data: str | None = None,
        max_quality_drop: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Plan:
        """Return what ``create`` with the same arguments would do; nothing runs."""
        body = job_body(model, steps, dataset, data, max_quality_drop, options)
        return self._http.post("/v1/jobs/plan", Plan, body)

    def front(self, job: types.Job | str) -> types.Front:
        """Return what a search has found so far."""
        return self._http.get(f"/v1/jobs/{id_of(job)}/front", types.Front)

    def take(self, job: types.Job | str, point: types.SearchPoint | str) -> Job:
        """Return a job of its own with the result of a point of a search; nothing runs."""
        name = point if isinstance(point, str) else point.id
        path = f"/v1/jobs/{id_of(job)}/front/{name}/take"
        return self._handle(self._http.post(path, Job))

    def measurements(self, job: types.Job | str) -> Iterator[Measurement]:
        """Yield what devices measured of a job's files, or are to measure, newest first."""
        for item in self._http.items(f"/v1/jobs/{id_of(job)}/measurements"):
            yield Measurement.model_validate(item)

    def get(self, job: types.Job | str) -> Job:
        """Return a job as it is now."""
        return self._handle(self._http.get(f"/v1/jobs/{id_of(job)}", Job))

    def wait(
        self,
        job: types.Job | str,
        *,
        on_event: OnEvent | None = None,
        progress: bool | None = None,
    ) -> Job:
        """Return the job once it has succeeded; see the job's own ``wait``."""
        after = 0
        with bar(progress) as show:
            while True:
                for event in self.events(job, after=after):
                    after = event.number
                    show(event)
                    if on_event is not None:
                        on_event(event)
                ended = self._handle(self._http.look(f"/v1/jobs/{id_of(job)}", Job))
                if ended.is_finished:
                    break
                io.sleep(_LOOK_S)  # its gateways are being stopped, one after the other
        if ended.status != "succeeded":
            raise JobFailed(ended)
        return ended

    def events(self, job: types.Job | str, *, after: int = 0) -> Iterator[Event]:
        """Yield a job's events, from the one after ``after``, until it has ended."""
        return follow(self._http, f"/v1/jobs/{id_of(job)}/events", after=after)

    def cancel(self, job: types.Job | str) -> Job:
        """Ask a job to stop; it is ``cancelled`` within seconds."""
        return self._handle(self._http.post(f"/v1/jobs/{id_of(job)}/cancel", Job))

    def retry(self, job: types.Job | str) -> Job:
        """Queue a failed or cancelled job again; its finished steps are kept."""
        return self._handle(self._http.post(f"/v1/jobs/{id_of(job)}/retry", Job))

    def delete(self, job: types.Job | str) -> None:
        """Delete a finished job with its files."""
        self._http.request("DELETE", f"/v1/jobs/{id_of(job)}")

    def report(self, job: types.Job | str) -> dict[str, Any]:
        """Return what was measured, on what, and how."""
        response = self._http.request("GET", f"/v1/jobs/{id_of(job)}/report")
        report: dict[str, Any] = response.json()
        return report

    def report_page(self, job: types.Job | str) -> str:
        """Return the report as one HTML page that needs nothing else."""
        path = f"/v1/jobs/{id_of(job)}/report"
        response = self._http.request("GET", path, headers={"Accept": "text/html"})
        return response.text

    def download(self, artifact: Artifact, to: str | Path) -> Path:
        """Download a file that a job made; it is then whole and verified, or not there.

        Args:
            artifact: of a job's ``artifacts``.
            to: its name; or a directory, where it has the name that the service gives it.

        Raises:
            CorruptDownload: its SHA-256 is not the announced one.
            Misnamed: ``to`` is called as another format.
        """
        require_fitting(artifact, Path(to))
        return download(self._http, artifact.href, to, sha256=artifact.sha256)

    def _handle(self, job: Job) -> Job:
        job._jobs = self  # noqa: SLF001 (a job is made here alone)
        return job
