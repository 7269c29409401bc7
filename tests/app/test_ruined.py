"""A result that does not do what the original does is good news nowhere, whatever its job is."""

from typing import Any

import httpx
import pytest

from app.domain.makeup import likeness
from app.domain.models import ModelDescription
from app.domain.searches import SearchPoint, front
from app.store.tables import JobRow, ModelRow
from tests.app.people import read
from tests.app.service import FIDELITY, MEASURES, STEP_REPORT, Service

UNLIKE = "does not do what the original does"
NOISE: dict[str, Any] = {
    **FIDELITY,
    "agreement": 0.04,
    "explained": -3000.0,
    "bounded": "agreement",
}
STEPS: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.9}]


def _ended(service: Service, model: str, fidelity: dict[str, Any], **more: Any) -> str:
    job: str = service.job(model, **{"steps": STEPS, **more})["id"]
    service.finish(job)
    with service.store.begin() as session:
        row = session.get_one(JobRow, job)
        description = session.get_one(ModelRow, model).description
        row.likeness = likeness(ModelDescription.model_validate(description))
        row.baseline = {**MEASURES, "quality": None}
        row.compressed = {**STEP_REPORT["after"], "latency_ms": 0.5, "quality": None} | {
            "fidelity": fidelity
        }
    return job


@pytest.fixture
def model(service: Service) -> str:
    return service.model()


def test_the_job_says_it_to_programs(service: Service, model: str) -> None:
    jobs = [_ended(service, model, found) for found in (NOISE, FIDELITY)]
    assert [service.http.get(f"/v1/jobs/{job}").json()["ruined"] for job in jobs] == [True, False]
    assert service.job(model)["ruined"] is False, "nothing was measured yet"


def test_lists_say_it_beside_the_state(person: httpx.Client, service: Service, model: str) -> None:
    _ended(service, model, FIDELITY)
    for path in ("/", "/jobs", f"/models/{model}"):
        assert UNLIKE not in read(person.get(path)), path
    job = _ended(service, model, NOISE)
    for path in ("/", "/jobs", f"/models/{model}", f"/jobs/{job}", f"/jobs/{job}/state"):
        page = person.get(path)
        assert f"ruined {UNLIKE}" in read(page), path
        assert '<span class="badge bad">ruined</span>' in page.text, path
    assert '<span class="badge bad">ruined</span>' in person.get(f"/jobs/{job}/report").text


def test_that_it_is_small_and_fast_is_no_good_news(
    person: httpx.Client, service: Service, model: str
) -> None:
    for fidelity, is_good in ((FIDELITY, True), (NOISE, False)):
        job = _ended(service, model, fidelity)
        for path in (f"/jobs/{job}", f"/jobs/{job}/report"):
            shown = person.get(path).text
            tiles = shown[shown.index('<ul class="tiles">') : shown.index("Before and after")]
            assert ('class="good"' in tiles) == is_good, path
            assert ('class="bad"' in tiles) != is_good, path


def test_in_pictures_it_is_hollow_and_leaves_room_for_the_others(
    person: httpx.Client, service: Service, model: str
) -> None:
    near = {**FIDELITY, "agreement": 0.9, "bounded": "agreement"}
    good, bad = _ended(service, model, near), _ended(service, model, NOISE)
    for path in (f"/models/{model}", f"/jobs/{good}", f"/jobs/compare?job={good}&job={bad}"):
        page = person.get(path)
        assert page.text.count(f'<a class="ruined" href="/jobs/{bad}"') == 2, "a mark a panel"
        assert f'<a class="ruined" href="/jobs/{good}"' not in page.text
        assert f"Results in hollow red circles {UNLIKE.replace('does', 'do', 1)}" in read(page)
        assert "answers that changed, up to 12.50 % or more" in read(page)
    compared = person.get(f"/jobs/compare?job={good}&job={bad}").text
    assert compared.count('<td class="n bad"') == 1
    alone = person.get(f"/jobs/compare?job={bad}")
    assert "answers that changed, up to 96.00 %" in read(alone)


def test_the_same_again_is_doubted_before_it_runs(
    person: httpx.Client, service: Service, model: str
) -> None:
    good = _ended(service, model, FIDELITY, steps=[{"method": "prune", "ratio": 0.1}])
    bad = _ended(service, model, NOISE)
    assert "This will run." in read(person.get(f"/jobs/new?like={good}"))
    form = read(person.get(f"/jobs/new?like={bad}"))
    assert "This will run, and may not do what is meant" in form
    said = "The job “{}” took these steps on this model and data, and its file does NOT"
    assert form.count(said.format(bad)) == 1, "the plan says it, and no field again"
    with service.store.begin() as session:
        session.get_one(JobRow, bad).name = "prune"
    assert said.format("prune") in read(person.get(f"/jobs/new?like={bad}")), "not a method's title"

    def doubts(**changes: Any) -> list[str]:
        body = {"model": model, "steps": STEPS, **changes}
        answer = service.http.post("/v1/jobs/plan", json=body)
        assert answer.status_code == 200, answer.text
        return [each["pointer"] for each in answer.json()["doubts"]]

    assert doubts() == ["#/steps"]
    assert doubts(steps=[{"method": "prune", "ratio": 0.8}]) == []
    assert doubts(dataset=service.dataset()) == [], "on other data it may go well"
    assert doubts(model=service.model(b"like it" * 30)) == []
    _ended(service, model, FIDELITY)
    assert doubts() == [], "the latest of them tells"


def test_it_is_off_the_front_of_a_search_unless_the_bound_allows_it() -> None:
    point = {
        "trial": 1, "steps": [], "size_bytes": 1, "latency_ms": 1.0, "macs": 1, "quality": None,
        "fidelity": None, "holds": True,
    }  # fmt: skip
    original = SearchPoint(**point, id="original", cost=1.0, drop=0.0)
    small = SearchPoint(**point, id="small", cost=0.5, drop=0.01)
    noise = SearchPoint(**{**point, "holds": False}, id="noise", cost=0.1, drop=0.96, ruined=True)
    assert front([original, small, noise]) == [small, original]
    allowed = noise.model_copy(update={"holds": True})
    assert front([original, small, allowed]) == [allowed, small, original]
