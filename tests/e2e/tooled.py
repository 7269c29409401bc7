"""A service whose worker has the converters, which ``make tools`` installs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.domain.targets import ToolName
from tests.e2e.service import GIB, Service
from workers.tools import environments

TOOLS = environments.base(None)


@contextmanager
def service(data: Path, *used: ToolName, **settings: str) -> Iterator[Service]:
    """Run a service; the test is skipped where a converter is missing."""
    missing = [tool for tool in used if tool not in environments.installed(TOOLS)]
    if missing:
        pytest.skip(f"run: planish tools install {' '.join(missing)}")
    defaults = {
        "WORKER_TOOLS": str(TOOLS),
        "ENGINE_MEMORY_BYTES": str(6 * GIB),
        "ENGINE_DIRECTORY_BYTES": str(GIB),
    }
    made = Service(data, **defaults | settings)
    try:
        made.start()
        yield made
    finally:
        made.stop()
