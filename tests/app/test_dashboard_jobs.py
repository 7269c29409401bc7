"""The pages of jobs: they are listed and looked at."""

import re
from html import escape, unescape
from typing import Any

import httpx
from sqlalchemy import select

from app.store import events, transitions
from app.store.tables import JobRow, ModelRow
from tests.app.people import read
from tests.app.service import Service


def test_a_job_that_waits_says_which_worker_it_waits_for(
    person: httpx.Client, service: Service
) -> None:
    job = service.job(requires={"labels": ["arm64"]})
    page = read(person.get(f"/jobs/{job['id']}"))
    assert "Place 1 in the queue, for a worker that has the label 'arm64'" in page


def test_a_finished_job_keeps_its_log_and_stands_beside_the_others_of_its_model(
    person: httpx.Client, service: Service
) -> None:
    ended = [service.job(model := service.model())["id"], service.job(model)["id"]]
    for job in ended:
        with service.store.begin() as session:
            said = {
                "level": "info",
                "message": f"<b>said</b> of {job}",
                "at": "2026-01-01T00:00:00Z",
            }
            events.append(session, job, "log", said)
            for epoch, loss in ((0, 0.5), (1, 0.9), (1, 0.25)):  # the last epoch was made again
                figure = {"step": 0, "name": "<i>loss", "value": loss, "epoch": epoch}
                events.append(session, job, "metric", figure)
            events.append(session, job, "metric", {"step": 1, "name": "best", "value": 0.1})
        service.finish(job)
    page = person.get(f"/jobs/{ended[0]}")
    assert '<polyline class="line0" points="20.0,20.0 620.0,180.0"/>' in page.text
    assert "How training went <i>loss 0.25" in read(page)
    assert "<i>loss" not in page.text
    assert f"<b>said</b> of {ended[0]}" in read(page)
    assert "<b>said" not in page.text
    assert page.text.count('href="/jobs/' + ended[1]) == 3  # two dots of the picture, and its words
    file = f"model-quantize-{ended[0][-6:]}.onnx"
    assert f'InferenceSession("{file}")' in read(page), "it is the file that the browser saves"
    report = person.get(f"/jobs/{ended[0]}/report.json").headers["content-disposition"]
    assert f'filename="model-quantize-{ended[0][-6:]}-report.json"' in report


def test_the_log_of_a_job_tells_of_its_stages_from_the_first_on(
    person: httpx.Client, service: Service
) -> None:
    job = service.job()["id"]

    def told() -> list[str]:
        page = person.get(f"/jobs/{job}").text
        log = re.search(r'<pre id="log"[^>]*>(.*?)</pre>', page, re.DOTALL)
        assert log is not None
        lines = unescape(log[1]).strip().splitlines()
        assert all(re.match(r"\d\d:\d\d:\d\d \S", line) for line in lines), lines
        return [line[9:] for line in lines]

    assert told() == ["queued"]
    service.start(job)
    with service.store.begin() as session:
        for share in (0.6, 0.7):
            progress = {"progress": share, "stage": "quantize", "eta_seconds": None}
            events.append(session, job, "progress", progress)
            events.append(session, job, "log", {"level": "info", "message": "<b>said"})
    assert told() == ["queued", "starting", "quantize", "<b>said", "<b>said"]
    service.finish(job, failed=True)
    assert told()[-2:] == ["<b>said", "failed"]


def test_jobs_without_names_are_told_apart_by_model_and_parameters(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    with service.store.begin() as session:
        session.get_one(ModelRow, model).filename = "a<b.onnx"
    asked: list[dict[str, Any]] = [
        {},
        {"steps": [{"method": "quantize", "weights": "int4", "mode": "weight_only"}]},
        {"steps": [{"method": "prune", "ratio": 0.25}, {"method": "cluster", "clusters": 8}]},
        {"steps": None, "objective": {"minimize": "size"}},
        {"steps": [], "deliver": ["onnx", "ort"]},
    ]
    works = [
        "Quantization (mode dynamic)",
        "Quantization (mode weight_only, weights int4)",
        "Pruning (ratio 0.25) → Weight sharing (clusters 8)",
        "Search for less size",
        "Other formats (onnx, ort)",
    ]
    service.worker("onnx")
    service.worker("ort")
    named = service.job(model, name="mine")
    service.finish(named["id"])
    assert named["title"] == "mine"
    jobs = [service.job(model, **body) for body in asked]
    titles = [f"a<b.onnx: {work}" for work in works]
    assert [job["title"] for job in jobs] == titles
    listed = service.http.get("/v1/jobs", params={"model": model}).json()["items"]
    assert [job["title"] for job in reversed(listed)] == ["mine", *titles]
    for path, called in (("/", titles), ("/jobs", titles), (f"/models/{model}", works)):
        page = person.get(path).text
        for job, words in zip(jobs, called, strict=True):
            assert f'href="/jobs/{job["id"]}"><bdi>{escape(words)}</bdi></a>' in page, path
        work = escape(called[0])
        assert f">mine</bdi></a><small><bdi>{work}</bdi></small>" in page, path
    assert f"<h1><bdi>{escape(titles[0])}</bdi></h1>" in person.get(f"/jobs/{jobs[0]['id']}").text


def test_jobs_are_listed_by_state_model_and_tag_a_page_at_a_time(
    person: httpx.Client, service: Service
) -> None:
    """Without JavaScript; what was chosen is kept from one page to the next."""
    first, second = service.model(), service.model(b"another" * 30)
    tagged = list[str]()
    for _ in range(27):
        _end_all(service)
        tagged.append(service.job(first, tags=["a & b"])["id"])
    other = service.job(second)["id"]

    def listed(query: str) -> list[str]:
        page = person.get(f"/jobs?{query}").text
        return re.findall(r'<th scope="row"><a href="/jobs/(job_\w+)"', page)

    assert listed("status=queued") == [other, tagged[-1]]
    assert listed(f"status=queued&model={second}&tag=") == [other]
    assert listed(f"model={first}&tag=a+%26+b") == tagged[:1:-1]
    page = person.get(f"/jobs?status=&model={first}&tag=a+%26+b")
    assert f'<option value="{first}" selected>' in page.text
    assert 'name="tag" value="a &amp; b"' in page.text
    older = re.search(r'<a href="([^"]+)">Older ones', page.text)
    assert older is not None
    assert listed(unescape(older[1]).partition("?")[2]) == tagged[1::-1]
    assert "No job matches." in read(person.get("/jobs?tag=nothing"))
    assert "Show all jobs" not in read(person.get("/jobs"))
    wrong = person.get("/jobs?status=lost")
    assert wrong.status_code == 422
    assert "Status: must be one of 'queued', 'running', 'succeeded'," in read(wrong)
    assert "#/" not in read(wrong)


def _end_all(service: Service) -> None:
    """Let every job end that waits, so that no quota is reached."""
    with service.store.begin() as session:
        for job in session.scalars(select(JobRow).where(JobRow.status == "queued")):
            transitions.finish(session, job, "succeeded")
