"""``/healthz``, ``/readyz``, ``/metrics`` and ``/docs``: for operators, without a key."""

import re
import subprocess
import sys

import httpx
from sqlalchemy import select

from app.settings import Settings
from app.store.tables import WorkerRow
from tests.app.service import Service
from tests.gateway import serving


def test_a_ready_service_shows_what_it_stands_on(service: Service) -> None:
    service.worker("onnx")
    ready = httpx.get(f"{service.url}/readyz").json()
    assert ready["status"] == "ready"
    assert set(ready["checks"]) == {"database", "migrations", "storage", "broker", "workers"}
    assert all(check["ok"] for check in ready["checks"].values())
    assert [(worker["queue"], worker["device"]) for worker in ready["workers"]] == [("jobs", "cpu")]


def test_a_worker_that_can_do_no_job_is_shown_with_its_reason(service: Service) -> None:
    none = httpx.get(f"{service.url}/readyz").json()
    assert (none["status"], none["checks"]["workers"]["ok"]) == ("ready", False)
    service.worker("onnx")
    service.worker("onnx")
    with service.store.begin() as session:
        row = session.scalars(select(WorkerRow).limit(1)).one()
        row.unable = "the run did not start"
    ready = httpx.get(f"{service.url}/readyz").json()
    assert ready["status"] == "ready", "requests are served all the same"
    assert ready["checks"]["workers"] == {
        "ok": False,
        "detail": "jobs on cpu: the run did not start",
    }
    assert sorted(str(worker["unable"]) for worker in ready["workers"]) == [
        "None",
        "the run did not start",
    ]


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
        assert httpx.post(f"{url}/v1/models", content=b"m", timeout=30).status_code == 201


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
    assert 'route="/v1/jobs/{job_id}",status="200"' in text


def test_the_description_s_page_shows_every_call_and_needs_nothing_from_elsewhere(
    service: Service,
) -> None:
    document = httpx.get(f"{service.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    answer = httpx.get(f"{service.url}/docs")
    assert "text/html" in answer.headers["content-type"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src '")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f'<h3 id="{operation["operationId"]}">' in answer.text, (method, path)
    links = set(re.findall(r'(?:href|src)="([^"]*)"', answer.text))
    assert {link for link in links if not link.startswith("#")} == {"openapi.json"}
    anchors = set(re.findall(r' id="([^"]*)"', answer.text))
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert "<script" not in answer.text


def test_the_gateway_imports_nothing_heavy() -> None:
    """The image of the gateway has no torch; its start stays under three seconds."""
    heavy = "{'torch', 'onnx', 'onnxruntime', 'numpy', 'workers'}"
    code = f"import sys, app.main; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stderr.decode()
