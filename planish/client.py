"""The client without ``async``, with the short calls of its first version."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from planish import _sync
from planish._requests import Step
from planish._sync.jobs import Job as Handle
from planish.types import Artifact, Dataset, Event, Job, Model, Plan, Webhook


class Client(_sync.Client):
    """A connection to one service; use it as a context manager, or ``close`` it.

    ``client.models``, ``client.datasets``, ``client.jobs`` and ``client.webhooks`` have all calls;
    those below are short for some of them.
    """

    def upload_model(self, file: str | Path, *, name: str | None = None) -> Model:
        """Short for ``models.upload``."""
        return self.models.upload(file, name=name)

    def upload_dataset(
        self,
        file: str | Path,
        *,
        name: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Dataset:
        """Short for ``datasets.upload``."""
        return self.datasets.upload(file, name=name, mean=mean, std=std)

    def model(self, model_id: str) -> Model:
        """Short for ``models.get``."""
        return self.models.get(model_id)

    def submit(
        self,
        model: Model | str,
        steps: Sequence[Step] | None = None,
        *,
        dataset: Dataset | str | None = None,
        **options: Any,
    ) -> Handle:
        """Short for ``jobs.create``."""
        return self.jobs.create(model, steps, dataset=dataset, **options)

    def plan(
        self,
        model: Model | str,
        steps: Sequence[Step] | None = None,
        *,
        dataset: Dataset | str | None = None,
        **options: Any,
    ) -> Plan:
        """Short for ``jobs.plan``."""
        return self.jobs.plan(model, steps, dataset=dataset, **options)

    def job(self, job: Job | str) -> Handle:
        """Short for ``jobs.get``."""
        return self.jobs.get(job)

    def events(self, job: Job | str, *, after: int = 0) -> Iterator[Event]:
        """Short for ``jobs.events``."""
        return self.jobs.events(job, after=after)

    def wait(self, job: Job | str, *, on_event: Callable[[Event], None] | None = None) -> Handle:
        """Short for ``jobs.wait``, without a bar."""
        return self.jobs.wait(job, on_event=on_event, progress=False)

    def cancel(self, job: Job | str) -> Handle:
        """Short for ``jobs.cancel``."""
        return self.jobs.cancel(job)

    def retry(self, job: Job | str) -> Handle:
        """Short for ``jobs.retry``."""
        return self.jobs.retry(job)

    def report(self, job: Job | str) -> dict[str, Any]:
        """Short for ``jobs.report``."""
        return self.jobs.report(job)

    def report_page(self, job: Job | str) -> str:
        """Short for ``jobs.report_page``."""
        return self.jobs.report_page(job)

    def download(self, artifact: Artifact, to: str | Path) -> Path:
        """Short for ``jobs.download``."""
        return self.jobs.download(artifact, to)

    def create_webhook(
        self, url: str, *, events: Sequence[str] | None = None, description: str | None = None
    ) -> Webhook:
        """Short for ``webhooks.create``."""
        return self.webhooks.create(url, events=events, description=description)
