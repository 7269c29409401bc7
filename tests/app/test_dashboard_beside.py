"""Results beside each other: a time is compared with the original of its own moment alone."""

import re
from typing import Any

import httpx

from app.store.tables import JobRow
from tests.app.people import read
from tests.app.service import EVALUATION, MEASURES, STEP_REPORT, Service


def _ended(service: Service, model: str, milliseconds: float | None, **latency: Any) -> str:
    """Let a job end whose original took so long, and whose result a third of that."""
    job: str = service.job(model)["id"]
    service.finish(job)
    third = None if milliseconds is None else milliseconds / 3
    with service.store.begin() as session:
        row = session.get_one(JobRow, job)
        row.baseline = {**MEASURES, "latency_ms": milliseconds}
        row.compressed = {**STEP_REPORT["after"], "latency_ms": third}
        measured = {**EVALUATION["latency"], **latency}
        row.evaluation = {**EVALUATION, "latency": None if milliseconds is None else measured}
    return job


def _compared(person: httpx.Client, *jobs: str) -> httpx.Response:
    return person.get("/jobs/compare", params={"job": list(jobs)})


def _heights(page: httpx.Response) -> list[str]:
    return re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', page.text)


def test_a_busy_moment_makes_no_result_slower_than_another(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    page = _compared(person, _ended(service, model, 1.5), _ended(service, model, 60.0))
    first, second = _heights(page)
    assert first == second, "both took a third of what the original took beside them"
    assert read(page).count("3.00× faster (between 2.95 and 3.05)") == 4, "in titles and list"
    assert "20.00 ms, and the original 60.00 ms" in read(page)


def test_the_original_is_seen_where_a_result_is_as_large_and_as_fast(
    person: httpx.Client, service: Service
) -> None:
    job = _ended(service, service.model(), 1.5, speedup=1.0, speedup_low=0.99, speedup_high=1.01)
    with service.store.begin() as session:
        row = session.get_one(JobRow, job)
        row.compressed = {**STEP_REPORT["after"], **MEASURES}
    page = _compared(person, job)
    dot, square = page.text.index("<circle"), page.text.index('<rect class="original"')
    assert dot < square, "what is drawn last lies on top"
    assert 'width="26"' in page.text[square:], "it is larger than the dot, and not filled"
    assert "as fast (between 0.99 and 1.01)" in read(page)


def test_a_time_that_is_not_certain_is_said_to_be_so(
    person: httpx.Client, service: Service
) -> None:
    page = _compared(person, _ended(service, service.model(), 1.5, certain=False))
    assert "not certain (the machine was busy: 2.95 to 3.05 times as fast)" in read(page)


def test_what_was_not_timed_is_not_drawn_as_the_fastest(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    page = _compared(person, _ended(service, model, None), _ended(service, model, 1.5))
    assert len(_heights(page)) == 1
    assert "not timed" in read(page)


def test_an_earlier_report_without_an_interval_is_compared_by_its_two_times(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    earlier = _ended(service, model, 3.0)
    with service.store.begin() as session:
        session.get_one(JobRow, earlier).evaluation = None
    first, second = _heights(_compared(person, earlier, _ended(service, model, 1.5)))
    assert first == second
