"""The client: upload, submit, wait, download."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from planish._stream import follow
from planish._transport import Transport, pauses
from planish.errors import CorruptDownload, JobFailed, Rejected, Unreachable
from planish.types import Artifact, Dataset, Event, Job, Model, Plan, Webhook

Step = Mapping[str, Any]
"""``{"method": "quantize", "mode": "static"}``; what is left out has a default."""

_Upload = TypeVar("_Upload", Model, Dataset)

_LOOK_S = 0.1
_LONGEST_LOOK_S = 2.0


class Client:
    """A connection to one service; use it as a context manager, or ``close`` it.

    Whatever the service refuses is raised as a ``planish.Refused``; every request is repeated where
    that is safe (see ``planish._transport``).

    Args:
        url: of the service. Default: ``PLANISH_URL``, else ``http://127.0.0.1:8080``.
        key: the API key. Default: ``PLANISH_KEY``, else none.
        timeout_s: how long connecting and sending may be stuck.
        attempts: how often a request is sent before it fails.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 30.0,
        attempts: int = 6,
    ) -> None:
        url = url or os.environ.get("PLANISH_URL") or "http://127.0.0.1:8080"
        key = key or os.environ.get("PLANISH_KEY")
        self._attempts = attempts
        self._http = Transport(url, key, timeout_s=timeout_s, attempts=attempts)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- Models and datasets ------------------------------------------------------------------

    def upload_model(self, file: str | Path, *, name: str | None = None) -> Model:
        """Upload an ``.onnx`` file, or a zip or tar with external data, and await its inspection.

        Raises:
            Rejected: the model cannot be used.
        """
        return self._upload("/v1/models", Model, Path(file), name=name)

    def upload_dataset(
        self,
        file: str | Path,
        *,
        name: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Dataset:
        """Upload an ``.npz``, ``.parquet`` or zip of class folders, and await its inspection.

        Args:
            file: the dataset.
            name: for people.
            mean: of images, a channel each, subtracted after scaling to 0-1.
            std: of images, a channel each, divided by.

        Raises:
            Rejected: the dataset cannot be used.
        """
        numbers = {"mean": _joined(mean), "std": _joined(std)}
        return self._upload("/v1/datasets", Dataset, Path(file), name=name, **numbers)

    def model(self, model_id: str) -> Model:
        """Return a model."""
        return Model.model_validate_json(self._http.get(f"/v1/models/{model_id}").content)

    def models(self) -> Iterator[Model]:
        """Yield every model, newest first."""
        return (Model.model_validate(item) for item in self._items("/v1/models"))

    def datasets(self) -> Iterator[Dataset]:
        """Yield every dataset, newest first."""
        return (Dataset.model_validate(item) for item in self._items("/v1/datasets"))

    def methods(self) -> list[dict[str, Any]]:
        """Return every method with the JSON Schema of its parameters."""
        return list(self._items("/v1/methods"))

    def targets(self) -> list[dict[str, Any]]:
        """Return the output formats and runtimes of this deployment."""
        return list(self._items("/v1/targets"))

    # --- Jobs ---------------------------------------------------------------------------------

    def submit(
        self,
        model: Model | str,
        steps: Sequence[Step],
        *,
        dataset: Dataset | str | None = None,
        **more: Any,
    ) -> Job:
        """Submit a job; it is queued when this returns.

        Args:
            model: what to compress.
            steps: what to do with it, in order.
            dataset: what to calibrate and measure with.
            more: the other fields of the request: ``require``, ``evaluate``, ``tags``, … A model
                or dataset may stand for its id, as in ``evaluate={"dataset": new_samples}``.
        """
        body = _job(model, steps, dataset, more)
        return Job.model_validate_json(self._http.post("/v1/jobs", body).content)

    def plan(
        self,
        model: Model | str,
        steps: Sequence[Step],
        *,
        dataset: Dataset | str | None = None,
        **more: Any,
    ) -> Plan:
        """Return what ``submit`` with the same arguments would do."""
        body = _job(model, steps, dataset, more)
        return Plan.model_validate_json(self._http.post("/v1/jobs/plan", body).content)

    def job(self, job: Job | str) -> Job:
        """Return a job as it is now."""
        return Job.model_validate_json(self._http.get(f"/v1/jobs/{_id(job)}").content)

    def jobs(
        self, *, status: str | None = None, model: Model | str | None = None, tag: str | None = None
    ) -> Iterator[Job]:
        """Yield jobs, newest first."""
        wanted = {"status": status, "model": _id(model) if model else None, "tag": tag}
        return (Job.model_validate(item) for item in self._items("/v1/jobs", **wanted))

    def events(self, job: Job | str, *, after: int = 0) -> Iterator[Event]:
        """Yield the job's events, from the one after ``after``, until it has ended."""
        path = f"/v1/jobs/{_id(job)}/events"
        return follow(
            lambda last: self._http.stream(
                path, {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
            ),
            after=after,
            attempts=self._attempts,
        )

    def wait(self, job: Job | str, *, on_event: Callable[[Event], None] | None = None) -> Job:
        """Return the job once it has succeeded.

        Args:
            job: what to wait for.
            on_event: called with each event, as it happens.

        Raises:
            JobFailed: the job failed or was cancelled; its ``job`` has the reason.
        """
        for event in self.events(job):
            if on_event is not None:
                on_event(event)
        ended = self.job(job)
        if ended.status != "succeeded":
            raise JobFailed(ended)
        return ended

    def cancel(self, job: Job | str) -> Job:
        """Ask a job to stop; it is ``cancelled`` within seconds."""
        return Job.model_validate_json(self._http.post(f"/v1/jobs/{_id(job)}/cancel").content)

    def retry(self, job: Job | str) -> Job:
        """Queue a failed or cancelled job again; its finished steps are kept."""
        return Job.model_validate_json(self._http.post(f"/v1/jobs/{_id(job)}/retry").content)

    def report(self, job: Job | str) -> dict[str, Any]:
        """Return what was measured, on what, and how."""
        report: dict[str, Any] = self._http.get(f"/v1/jobs/{_id(job)}/report").json()
        return report

    def report_page(self, job: Job | str) -> str:
        """Return the report as one HTML page that needs nothing else."""
        return self._http.get(f"/v1/jobs/{_id(job)}/report", accept="text/html").text

    # --- Bytes --------------------------------------------------------------------------------

    def download(self, artifact: Artifact, to: str | Path) -> Path:
        """Download an artifact; ``to`` is then whole and verified, or not there.

        Raises:
            CorruptDownload: its SHA-256 is not the announced one.
        """
        target = Path(to)
        part = target.with_name(target.name + ".part")
        try:
            digest = self._fetch(artifact.href, part)
            if digest != artifact.sha256:
                raise CorruptDownload(f"{artifact.id} came with SHA-256 {digest}: try again")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    # --- Webhooks -----------------------------------------------------------------------------

    def create_webhook(
        self, url: str, *, events: Sequence[str] | None = None, description: str | None = None
    ) -> Webhook:
        """Have ``url`` told how jobs end; the answer holds the signing secret, once."""
        body: dict[str, Any] = {"url": url, "description": description}
        if events is not None:
            body["events"] = list(events)
        return Webhook.model_validate_json(self._http.post("/v1/webhooks", body).content)

    # --- How ----------------------------------------------------------------------------------

    def _upload(self, path: str, kind: type[_Upload], file: Path, **params: str | None) -> _Upload:
        response = self._http.post_file(path, file, filename=file.name, **params)
        made = kind.model_validate_json(response.content)
        pause = _LOOK_S
        while made.status == "inspecting":
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK_S)
            made = kind.model_validate_json(self._http.get(f"{path}/{made.id}").content)
        if made.problem is not None:
            raise Rejected(made.problem)
        return made

    def _items(self, path: str, **params: str | None) -> Iterator[dict[str, Any]]:
        more = True
        while more:
            page = self._http.get(path, params).json()
            yield from page["items"]
            params["cursor"] = page.get("next_cursor")
            more = params["cursor"] is not None

    def _fetch(self, path: str, to: Path) -> str:
        for pause in [*pauses(self._attempts), None]:
            digest = hashlib.sha256()
            try:
                with self._http.stream(path, {}) as response, to.open("wb") as file:
                    for chunk in response.iter_bytes():
                        digest.update(chunk)
                        file.write(chunk)
            except httpx.TransportError as error:
                if pause is None:
                    raise Unreachable(f"the download broke off: {error}") from error
                time.sleep(pause)
            else:
                break
        return digest.hexdigest()


def _job(
    model: Model | str,
    steps: Sequence[Step],
    dataset: Dataset | str | None,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    names = {"model": _id(model), "dataset": _id(dataset) if dataset else None}
    return {**names, "steps": _plain(steps), **_plain(more)}


def _plain(value: Any) -> Any:
    """Return what JSON can say: a model or dataset, wherever it stands, becomes its id."""
    if isinstance(value, Model | Dataset):
        return value.id
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _id(resource: Model | Dataset | Job | str) -> str:
    return resource if isinstance(resource, str) else resource.id


def _joined(numbers: Sequence[float] | None) -> str | None:
    return ",".join(map(str, numbers)) if numbers is not None else None
