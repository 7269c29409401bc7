"""A client that a public generator makes of ``/openapi.json`` works, and misses nothing.

The generator pins another typer than we do, so it is installed beside ours, for this test alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.service import Service
from tests.app.test_openapi import described

GENERATOR = ("openapi-python-client==0.29.1", "ruamel.yaml==0.19.1", "typer==0.27.3")
CONFIGURATION = {
    "content_type_overrides": {"application/offset+octet-stream": "application/octet-stream"},
    "post_hooks": [],
}
USED = """
import sys
from made import AuthenticatedClient
from made.api.jobs import submit_job, get_job, list_jobs
from made.api.models import get_model, list_models
from made.models import JobRequest, Quantize, QuantizeMode
from made.models.problem_details import ProblemDetails

url, key, model = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=key) as client:
    found = get_model.sync(model, client=client)
    assert (found.id, found.status) == (model, "ready"), found
    assert [each.id for each in list_models.sync(client=client).items] == [model]
    steps = [Quantize(method="quantize", mode=QuantizeMode.DYNAMIC)]
    request = JobRequest(model=model, steps=steps)
    job = submit_job.sync(client=client, body=request)
    assert get_job.sync(job.id, client=client).status == "queued"
    assert [each.id for each in list_jobs.sync(client=client).items] == [job.id]
    refused = get_job.sync("job_x", client=client)
    assert isinstance(refused, ProblemDetails) and refused.type_ == "not-found", refused
"""


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the generator runs."""
    place = tmp_path_factory.mktemp("generator")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    done = subprocess.run(
        [*install, place, *GENERATOR], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"the generator cannot be installed here: {done.stderr[-500:]}")
    return {**os.environ, "PYTHONPATH": str(place)}


def test_a_generated_client_works(
    service: Service, tmp_path: Path, generator: dict[str, str]
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(described()))
    (tmp_path / "generator.json").write_text(json.dumps(CONFIGURATION))
    made = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
            *("--path", "openapi.json", "--config", "generator.json", "--output-path", "made"),
            "--fail-on-warning",
        ],
        cwd=tmp_path,
        env=generator,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    used = subprocess.run(
        [sys.executable, "-c", USED, service.url, service.key, service.model()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stdout + used.stderr
