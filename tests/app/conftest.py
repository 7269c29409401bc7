"""A gateway with keys for two tenants, and what a worker would have written."""

import logging
from collections.abc import Iterator

import httpx
import pytest
import structlog

from app.settings import Settings
from app.store.session import Sessions
from tests.app.boards import RUN
from tests.app.people import browser
from tests.app.reporting import finished
from tests.app.service import EVALUATION, Service
from tests.app.serving import serving_two, settings_with


@pytest.fixture(scope="session", autouse=True)
def _plain_log() -> None:
    """Show warnings and tracebacks as text; drawing them would take seconds each."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


@pytest.fixture
def settings(database: str, redis_url: str, storage_url: str) -> Settings:
    """Keys are needed; limits are small enough to be reached."""
    return settings_with(database, redis_url, storage_url)


@pytest.fixture
def service(settings: Settings, store: Sessions) -> Iterator[Service]:
    """A running gateway; ``http`` is the tenant acme's, ``other`` another's."""
    with serving_two(settings, store) as running:
        yield running


@pytest.fixture
def timed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports say what a timed run reads, without which no device can time a file."""
    monkeypatch.setitem(EVALUATION, "run", RUN)


@pytest.fixture
def person(service: Service) -> Iterator[httpx.Client]:
    """A person of the tenant acme who is logged in at the dashboard."""
    with browser(service) as client:
        yield client


@pytest.fixture
def job(service: Service) -> str:
    """A finished job with a report."""
    return finished(service, name="a job")
