"""A generator of requests finds no 5xx and no answer that the API's description does not allow.

Left out: event streams, which stay open, and the check that whatever the schema allows is accepted,
because ids must also exist.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.service import Service

CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 429, 460]

[[operations]]
include-name = "POST /v1/uploads"
checks.negative_data_rejection.enabled = false  # a header that is unknown is nothing wrong
"""

HOOKS = """
import schemathesis
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
"""

DRAWN = "fuzzing,stateful"
"""The phases that differ from seed to seed."""


@pytest.mark.parametrize(("seed", "phases"), [(1, f"examples,coverage,{DRAWN}"), (2, DRAWN)])
def test_generated_requests_break_no_promise(
    service: Service, tmp_path: Path, seed: int, phases: str
) -> None:
    for _ in range(3):
        service.finish(service.job()["id"])
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    (tmp_path / "hooks.py").write_text(HOOKS)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
        *("--header", f"Authorization: {service.http.headers['Authorization']}"),
        *("--exclude-path-regex", "/events$"),
        *("--exclude-checks", "positive_data_acceptance"),
        *("--phases", phases, "--max-examples", "12", "--seed", str(seed)),
        *("--request-timeout", "20", "--no-color"),
    ]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert ended.returncode == 0, _shortened(ended.stdout)


def _shortened(report: str) -> str:
    """Keep the lines of a report, without the megabytes that a request may have."""
    return "\n".join(line[:500] for line in report.splitlines())
