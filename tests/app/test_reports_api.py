"""``/v1/jobs/{id}/report``: JSON for programs, or a page; kept by whoever has it."""

from typing import Any

import httpx
import pytest

from app.store.tables import JobRow
from tests.app.reporting import BROWSER, Parsed, finished, page, path
from tests.app.service import EVALUATION, FIDELITY, MANIFEST, MEASURES, STEP_REPORT, Service


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json, text/html", "application/json"),
        ("text/html;q=0.5, application/json;q=0.5", "application/json"),
        (BROWSER, "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("TEXT/HTML", "text/html; charset=utf-8"),
        ("text/*", "text/html; charset=utf-8"),
        ("application/json;q=0.4, text/html;q=0.9", "text/html; charset=utf-8"),
        ("application/json;q=0, */*", "text/html; charset=utf-8"),
        ("text/html;q=0, */*;q=0.1", "application/json"),
        ("text/html;q=0.2, application/json;q=0.3", "application/json"),
        ("text/html;q=high, application/json;q=0.1", "application/json"),
    ],
)
def test_the_client_chooses_json_or_a_page(
    service: Service, job: str, accept: str | None, media: str
) -> None:
    request = service.http.build_request("GET", path(job))
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    answer = service.http.send(request)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media)


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0, application/json;q=0"])
def test_another_form_is_refused_with_what_there_is(
    service: Service, job: str, accept: str
) -> None:
    answer = service.http.get(path(job), headers={"Accept": accept})
    assert (answer.status_code, answer.json()["type"]) == (406, "not-acceptable")
    assert "text/html" in answer.json()["detail"]


def test_the_json_holds_what_was_measured_and_how(service: Service, job: str) -> None:
    report = service.http.get(path(job)).json()
    assert report["baseline"]["size_bytes"] == MEASURES["size_bytes"]
    assert report["compressed"]["fidelity"] == FIDELITY
    younger: dict[str, Any] = {"run": None, "sample_sizes": {}, "drop": None}
    latency = {**EVALUATION["latency"], "tidied": None}
    assert report["evaluation"] == {**EVALUATION, **younger, "latency": latency}
    assert report["manifest"] == MANIFEST
    files = service.http.get(f"/v1/jobs/{job}/artifacts").json()["items"]
    assert files, "the job has made one"
    for name in ("id", "filename", "sha256"):
        assert [file[name] for file in report["artifacts"]] == [file[name] for file in files]
    assert report["verdict"] == "3 times faster"
    assert [step["skipped"] for step in report["step_reports"]] == [STEP_REPORT["skipped"]]
    assert "problem" not in report


@pytest.mark.parametrize("accept", ["application/json", BROWSER])
def test_what_is_not_there_or_not_yours_is_404(service: Service, job: str, accept: str) -> None:
    headers = {"Accept": accept}
    foreign = service.other.get(path(job), headers=headers)
    unknown = service.http.get(path("job_0"), headers=headers)
    for answer in (foreign, unknown):
        assert (answer.status_code, answer.json()["type"]) == (404, "not-found")
        assert answer.headers["content-type"] == "application/problem+json"
    assert httpx.get(service.url + path(job), headers=headers).status_code == 401


def test_a_job_without_a_report_is_a_conflict_that_says_what_to_do(service: Service) -> None:
    queued = service.job()["id"]
    answer = service.http.get(path(queued), headers={"Accept": BROWSER})
    assert (answer.status_code, answer.json()["type"]) == (409, "conflict")
    assert "wait until" in answer.json()["detail"]
    service.http.post(f"/v1/jobs/{queued}/cancel")
    assert "retry it" in service.http.get(path(queued)).json()["detail"]


def test_a_failed_job_keeps_its_figures_beside_its_problem(service: Service) -> None:
    job = finished(service, failed=True)
    report = service.http.get(path(job)).json()
    assert report["problem"]["type"] == "quality-below-requirement"
    assert report["status"] == "failed"
    shown = Parsed(page(service, job))
    assert "It lost 2 points." in shown.text("main")
    assert shown.text("main").index("It lost 2 points.") < shown.text("main").index("Verdict")
    assert "3.33× smaller" in shown.text("main")


@pytest.mark.parametrize("accept", ["application/json", BROWSER])
def test_what_the_client_has_is_not_sent_again(service: Service, job: str, accept: str) -> None:
    headers = {"Accept": accept}
    answer = service.http.get(path(job), headers=headers)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Accept, Authorization"
    etag = answer.headers["etag"]
    again = service.http.get(path(job), headers={**headers, "If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    with service.store.begin() as session:
        session.get_one(JobRow, job).verdict = "another"
    changed = service.http.get(path(job), headers={**headers, "If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_json_and_page_are_told_apart_by_their_tags(service: Service, job: str) -> None:
    tags = {
        service.http.get(path(job), headers={"Accept": accept}).headers["etag"]
        for accept in ("application/json", "text/html")
    }
    assert len(tags) == 2
