"""One whole service for all fault tests; each leaves it as it found it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.browser import needed
from tests.e2e.service import Service, small_model


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"))
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture
def service(running_service: Service) -> Iterator[Service]:
    """A service that runs; after the test nothing of a job is left, and no secret in a log."""
    yield running_service
    running_service.assert_discreet()
    running_service.assert_clean()


@pytest.fixture(scope="session")
def model(running_service: Service) -> str:
    """A model that is ready."""
    return running_service.upload(small_model())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = needed()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
