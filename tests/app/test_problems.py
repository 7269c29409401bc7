"""Every error is a problem, says what to do instead, and is never a 500 for bad input."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

import migrations
from app.domain.problems import ProblemDetails, kinds
from app.local import postgres
from app.main import create_app
from app.settings import Settings
from app.web.problems import pointer
from tests.app.service import Service, pointers
from tests.gateway import serving


def checked(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Assert that this is a complete problem of the right kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    ProblemDetails.model_validate(body)
    assert (body["type"], body["status"]) == (kind, status)
    assert "Traceback" not in answer.text
    return body


def test_what_does_not_exist(service: Service) -> None:
    for path in (
        "/nowhere",
        "/v1",
        "/v1/",
        "/v1/jobs/",
        "/v1/jobs/job_x",
        "/v1/jobs/%00",
        "/v2/jobs",
    ):
        body = checked(service.http.get(path), 404, "not-found")
        assert ("leave out the slash" in body["detail"]) == path.endswith("/")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/models", "GET, POST"),
        ("PATCH", "/v1/jobs/job_x", "GET, DELETE"),
        ("GET", "/v1/jobs/job_x/cancel", "POST"),
        ("PUT", "/v1/jobs/plan", "POST"),
        ("POST", "/v1/artifacts/art_x/content", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_has_not(
    service: Service, method: str, path: str, allowed: str
) -> None:
    answer = service.http.request(method, path)
    checked(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("body", "media", "status", "kind"),
    [
        (b"{", "application/json", 400, "malformed-request"),
        (b"\xff\xfe", "application/json", 400, "malformed-request"),
        (b"[" * 50_000, "application/json", 400, "malformed-request"),
        (b"", "application/json", 422, "invalid"),
        (b"[]", "application/json", 422, "invalid"),
        (b"null", "application/json", 422, "invalid"),
        (b'"x"', "application/json", 422, "invalid"),
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b'{"model": "a", "seed": 1e999}', "application/json", 422, "invalid"),
        (b'{"model": "\\u0000", "steps": [{"method": "quantize"}]}', "application/json", 422, "x"),
        (b'{"model": "\\ud800", "steps": [{"method": "quantize"}]}', "application/json", 422, "x"),
        (b" " * 70_000, "application/json", 413, "too-large"),
    ],
)
def test_a_body_that_is_wrong(
    service: Service, body: bytes, media: str, status: int, kind: str
) -> None:
    for path in ("/v1/jobs", "/v1/jobs/plan", "/v1/webhooks"):
        answer = service.http.post(path, content=body, headers={"Content-Type": media})
        checked(answer, status, "invalid" if kind == "x" else kind)
        streamed = service.http.post(path, content=iter([body]), headers={"Content-Type": media})
        assert streamed.status_code == status


def test_a_field_that_is_unknown_is_refused_with_those_that_there_are(service: Service) -> None:
    step = {"method": "quantize", "recover": {"epoch": 5}, "bits": 8, "percentile": 7}
    body = {"model": "mdl_1", "steps": [step], "require": {"quality": 1}}
    answer = service.http.post("/v1/jobs/plan", json=body)
    said = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert set(said) == {
        "#/steps/0/recover/epoch",
        "#/steps/0/bits",
        "#/steps/0/percentile",
        "#/require/quality",
    }
    assert said["#/require/quality"].endswith("known here: there are max_quality_drop")
    assert ": there are method, mode, " in said["#/steps/0/bits"]
    assert "epochs" in said["#/steps/0/recover/epoch"]
    assert said["#/steps/0/percentile"].startswith("must be ")


def test_text_that_cannot_be_stored_is_refused(service: Service) -> None:
    body = {"model": service.model(), "steps": [{"method": "quantize", "mode": "dynamic"}]}
    for change in ({"name": "a\0b"}, {"tags": ["\0"]}):
        checked(service.http.post("/v1/jobs", json={**body, **change}), 422, "invalid")
    checked(service.http.get("/v1/jobs?tag=%00"), 400, "malformed-request")


def test_thousands_of_faults_are_answered_with_a_few(service: Service) -> None:
    body = {"model": "m", "steps": [{"method": "quantize"}], **{f"x{n}": 1 for n in range(3000)}}
    answer = service.http.post("/v1/jobs", json=body)
    checked(answer, 422, "invalid")
    assert len(pointers(answer)) <= 50


def test_headers_that_are_too_large_are_refused(service: Service) -> None:
    answer = service.http.get("/v1/jobs", headers={"X": "y" * 200_000})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    ("location", "body", "kind", "expected"),
    [
        (("body", "steps", 0, "ratio"), {"steps": [{"ratio": 2}]}, "x", "#/steps/0/ratio"),
        (("body", "steps", 0, "prune", "ratio"), {"steps": [{"ratio": 2}]}, "x", "#/steps/0/ratio"),
        (("body", "steps", 0, "prune", "n"), {"steps": [{}]}, "missing", "#/steps/0/n"),
        (("body", "width", "int"), {"width": "x"}, "int_parsing", "#/width"),
        (("body",), {}, "value_error", "#"),
        (("body", "a/b~"), {"a/b~": 1}, "extra_forbidden", "#/a~1b~0"),
        (("query", "limit"), None, "x", "#/query/limit"),
    ],
)
def test_a_pointer_follows_the_body_as_it_was_sent(
    location: tuple[str | int, ...], body: object, kind: str, expected: str
) -> None:
    assert pointer(location, body, kind) == expected


def test_a_fault_of_ours_is_told_without_details(settings: Settings) -> None:
    app = create_app(settings)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("secret")

    answer = _ask(app, "/broken", {"X-Request-ID": "me-1"})
    body = checked(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert "me-1" in body["detail"]
    assert answer.headers["x-request-id"] == "me-1"
    page = _ask(app, "/broken", {"X-Request-ID": "me-2", "Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "me-2" in page.text, "a person reads a page"
    assert "secret" not in page.text
    unsafe = _ask(app, "/healthz", {"X-Request-ID": "a b"}).headers["x-request-id"]
    assert unsafe != "a b"


def test_a_database_that_is_away_is_503_and_forgiven(
    tmp_path: Path, redis_url: str, storage_url: str
) -> None:
    with postgres.server(tmp_path / "database") as server:
        own = {
            "database": {"url": server.url},
            "broker": {"url": redis_url},
            "storage": {"url": storage_url},
            "auth": {"required": False},
        }
        settings = Settings.model_validate(own)
        migrations.upgrade(settings.database)
        with serving(settings) as url:
            assert httpx.get(f"{url}/readyz").json()["status"] == "ready"
            server.stop()
            for path in ("/v1/jobs", "/metrics"):
                answer = httpx.get(url + path)
                checked(answer, 503, "unavailable")
                assert int(answer.headers["retry-after"]) > 0
            checks = checked(httpx.get(f"{url}/readyz"), 503, "unavailable")["checks"]
            assert (checks["database"]["ok"], checks["storage"]["ok"]) == (False, True)
            assert httpx.get(f"{url}/healthz").status_code == 200
            server.start()
            assert httpx.get(f"{url}/v1/jobs").status_code == 200


def test_storage_that_is_away_is_503(service: Service, storage_url: str) -> None:
    model = service.model()
    root = Path(urlsplit(storage_url).path)
    root.rename(root.with_name("away"))
    root.write_text("no directory")
    for method, path in (("POST", "/v1/models"), ("GET", "/readyz")):
        checked(service.http.request(method, path, content=b"m"), 503, "unavailable")
    root.unlink()
    root.with_name("away").rename(root)
    assert service.http.get(f"/v1/models/{model}/content").status_code == 200


def test_every_kind_of_problem_is_its_own() -> None:
    types = [kind.type for kind in kinds()]
    assert len(types) == len(set(types))
    for kind in kinds():
        assert kind.__doc__
        assert 400 <= kind.status < 600


def _ask(app: FastAPI, path: str, headers: dict[str, str]) -> httpx.Response:
    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(asking())
