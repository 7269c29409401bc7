"""The client of one service: its resources are attributes."""

from datetime import date
from typing import Any, Self

from planish._answers import PATIENCE_S
from planish._async.datasets import AsyncDatasets
from planish._async.devices import AsyncDevices
from planish._async.http import AsyncTransport
from planish._async.jobs import AsyncJobs
from planish._async.models import AsyncModels
from planish._async.webhooks import AsyncWebhooks
from planish._outages import Tell
from planish.credentials import key_or_default, url_or_default
from planish.types import UsageDay


class AsyncClient:
    """A connection to one service; use it as a context manager, or ``close`` it.

    Whatever the service refuses is raised as a ``planish.Refused``; every request is repeated where
    that is safe.

    Args:
        url: of the service. Default: ``PLANISH_URL``, else that of the last ``planish login``,
            else ``http://127.0.0.1:8080``.
        key: the API key. Default: ``PLANISH_API_KEY``, else that of the login at ``url``.
        timeout_s: how long connecting and sending may be stuck, in seconds.
        attempts: how often a request is sent before it fails.
        patience_s: how long at a stretch the service may be away while a job or an inspection is
            awaited, in seconds. Default: five minutes, so that a restart fails no one who waits.
        on_outage: called with a sentence when the service does not answer, and when it does again.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 30.0,
        attempts: int = 6,
        patience_s: float = PATIENCE_S,
        on_outage: Tell | None = None,
    ) -> None:
        self.url = url_or_default(url)
        key = key_or_default(key, self.url)
        self._http = AsyncTransport(
            self.url,
            key,
            timeout_s=timeout_s,
            attempts=attempts,
            patience_s=patience_s,
            on_outage=on_outage,
        )
        self.models = AsyncModels(self._http)
        self.datasets = AsyncDatasets(self._http)
        self.jobs = AsyncJobs(self._http)
        self.devices = AsyncDevices(self._http)
        self.webhooks = AsyncWebhooks(self._http)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def methods(self) -> list[dict[str, Any]]:
        """Return every method with the JSON Schema of its parameters."""
        return [item async for item in self._http.items("/v1/methods")]

    async def targets(self) -> list[dict[str, Any]]:
        """Return the output formats and runtimes of this deployment."""
        return [item async for item in self._http.items("/v1/targets")]

    async def usage(self, first: date | None = None, last: date | None = None) -> list[UsageDay]:
        """Return what was used, day by day.

        Args:
            first: day, in UTC. Default: the service's.
            last: day, in UTC. Default: today.
        """
        between = {
            "from": None if first is None else first.isoformat(),
            "to": None if last is None else last.isoformat(),
        }
        items = self._http.items("/v1/usage", **between)
        return [UsageDay.model_validate(item) async for item in items]
