"""``/healthz``, ``/readyz``, ``/metrics`` and ``/docs``: for operators, without a key."""

import subprocess
import sys
import time

import httpx

from app.settings import Settings
from tests.app.service import Service
from tests.gateway import serving


def test_a_ready_service_shows_what_it_stands_on(service: Service) -> None:
    service.worker("onnx")
    ready = httpx.get(f"{service.url}/readyz").json()
    assert ready["status"] == "ready"
    assert set(ready["checks"]) == {"database", "migrations", "storage", "broker"}
    assert all(check["ok"] for check in ready["checks"].values())
    assert [(worker["queue"], worker["device"]) for worker in ready["workers"]] == [("jobs", "cpu")]


def test_a_schema_that_is_behind_is_not_ready(empty_database: str, settings: Settings) -> None:
    behind = settings.model_copy(
        update={"database": settings.database.model_copy(update={"url": empty_database})}
    )
    with serving(behind) as url:
        answer = httpx.get(f"{url}/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["migrations"]["ok"] is False


def test_without_a_broker_requests_are_served_and_jobs_accepted(settings: Settings) -> None:
    changed = {
        "broker": settings.broker.model_copy(update={"url": "redis://127.0.0.1:1/0"}),
        "auth": settings.auth.model_copy(update={"required": False}),
    }
    with serving(settings.model_copy(update=changed)) as url:
        ready = httpx.get(f"{url}/readyz").json()
        assert (ready["status"], ready["checks"]["broker"]["ok"]) == ("ready", False)
        began = time.monotonic()
        assert httpx.post(f"{url}/v1/models", content=b"m").status_code == 201
        assert time.monotonic() - began < 5


def test_metrics_count_jobs_requests_and_steps(service: Service) -> None:
    queued, done = service.job()["id"], service.job()["id"]
    service.finish(done)
    service.http.get(f"/v1/jobs/{queued}")
    text = httpx.get(f"{service.url}/metrics").text
    assert 'planish_jobs{status="queued"} 1.0' in text
    assert 'planish_jobs{status="succeeded"} 1.0' in text
    assert 'planish_jobs{status="running"} 0.0' in text
    assert 'planish_step_seconds_sum{method="quantize"} 1.25' in text
    assert "planish_webhook_backlog 0.0" in text
    age = next(line for line in text.splitlines() if line.startswith("planish_queue_age_seconds "))
    assert 0 < float(age.split()[1]) < 60
    assert 'route="/jobs/{job_id}",status="200"' in text


def test_the_description_and_its_page_are_there(service: Service) -> None:
    assert httpx.get(f"{service.url}/openapi.json").json()["openapi"].startswith("3.1")
    assert "text/html" in httpx.get(f"{service.url}/docs").headers["content-type"]


def test_the_gateway_imports_nothing_heavy() -> None:
    """The image of the gateway has no torch; its start stays under three seconds."""
    heavy = "{'torch', 'onnx', 'onnxruntime', 'numpy', 'workers'}"
    code = f"import sys, app.main; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stderr.decode()
