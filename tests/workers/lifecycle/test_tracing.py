"""Jobs and uploads have one trace each, from their request to what workers do, where enabled."""

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import tracing
from app.domain.problems import Unavailable
from app.settings import Settings, Tracing
from app.store import delivery_turns
from app.store.session import transaction
from tests.e2e.service import small_model
from tests.gateway import serving
from workers.runs.inspection import inspect_next
from workers.runs.taking import run_next
from workers.webhooks.delivery import deliver
from workers.worker import Worker

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
UPLOAD_TRACE = "6e0c63257de34c926f9efcd03927272e"
CALLER = "00f067aa0ba902b7"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What was traced in this process."""
    monkeypatch.setattr(tracing._Process, "tracer", None)
    exporter = InMemorySpanExporter()
    tracing.configure(Tracing(enabled=True), "test", SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


def test_a_job_has_one_trace_from_its_request_to_its_steps(
    paced: Worker, spans: InMemorySpanExporter
) -> None:
    settings = Settings.model_validate({**paced.settings.model_dump(), "auth": {"required": False}})
    with serving(settings) as url, httpx.Client(base_url=url, trust_env=False) as http:
        binary = {"Content-Type": "application/octet-stream"}
        events = ["model.ready", "job.succeeded"]
        hook = {"url": "https://receiver.invalid/hook", "events": events}
        http.post("/v1/webhooks", json=hook).raise_for_status()
        sent = {**binary, "traceparent": f"00-{UPLOAD_TRACE}-{CALLER}-01"}
        model = http.post("/v1/models", content=small_model(), headers=sent).json()["id"]
        assert inspect_next(paced)
        step = {"method": "quantize", "mode": "float16", "force": True}
        answer = http.post(
            "/v1/jobs",
            json={"model": model, "steps": [step]},
            headers={"traceparent": f"00-{TRACE}-{CALLER}-01"},
        )
        job_id = answer.raise_for_status().json()["id"]
        assert run_next(paced)
        assert http.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"
    with transaction(paced.sessions) as session:
        due = delivery_turns.due(session, 2)
    assert all(deliver(paced.sessions, settings, each, paced.id) for each in due)
    _assert_upload_trace([span for span in spans.get_finished_spans() if _trace(span) != TRACE])
    of_job = [span for span in spans.get_finished_spans() if _trace(span) == TRACE]
    by_name = {span.name: span for span in of_job}
    parents = {span.name: _parent(span, of_job) for span in of_job}
    while_it_runs = {parents.pop("step quantize"), parents.pop("store")}
    assert while_it_runs <= {"engine", "job"}, "they are known once the engine has told them"
    assert parents == {
        "POST /v1/jobs": CALLER,
        "nudge job": "POST /v1/jobs",
        "job": "POST /v1/jobs",
        "fetch": "job",
        "engine": "job",
        "publish": "job",
        "nudge delivery": "job",
        "webhook job.succeeded": "publish",
    }
    told = by_name["webhook job.succeeded"].attributes
    assert told is not None
    assert told["delivery.error"] == "the host's name does not resolve"
    attributes = by_name["job"].attributes
    assert attributes is not None
    assert (attributes["job.id"], attributes["job.attempt"]) == (job_id, 1)
    assert attributes["worker.id"] == paced.id


def test_nothing_is_imported_where_nothing_is_traced() -> None:
    code = (
        "import sys, app.main, workers.celery; from app import tracing;"
        " from app.settings import Tracing; tracing.configure(Tracing(), 'test')\n"
        "with tracing.span('a'): tracing.ended('b', 1.0); assert tracing.here() is None\n"
        "assert 'opentelemetry.sdk' not in sys.modules"  # clients of ours import its bare interface
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tracing_without_opentelemetry_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Unavailable, match=r"planish\[otel\]"):
        tracing.configure(Tracing(enabled=True), "test")


def _assert_upload_trace(spans: list[ReadableSpan]) -> None:
    of_upload = [span for span in spans if _trace(span) == UPLOAD_TRACE]
    assert {span.name: _parent(span, of_upload) for span in of_upload} == {
        "POST /v1/models": CALLER,
        "nudge model": "POST /v1/models",
        "inspection": "POST /v1/models",
        "fetch": "inspection",
        "engine": "inspection",
        "store": "inspection",
        "publish": "inspection",
        "webhook model.ready": "publish",
    }


def _trace(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


def _parent(span: ReadableSpan, spans: list[ReadableSpan]) -> str:
    """Return the name of a span's parent, or its id where that is not among ours."""
    assert span.parent is not None
    ids = {each.context.span_id: each.name for each in spans}
    return ids.get(span.parent.span_id, f"{span.parent.span_id:016x}")
