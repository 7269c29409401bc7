"""Results beside each other: a time is compared with the original of its own moment alone."""

import re
from html import unescape
from typing import Any

import httpx
import pytest

from app.store.tables import JobRow
from tests.app.people import read
from tests.app.service import EVALUATION, FIDELITY, MEASURES, STEP_REPORT, Service


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


def _heights(page: httpx.Response, panel: str = "time") -> list[str]:
    """Return how high the dots of a panel stand: of times, or of lost quality."""
    drawn = next(part for part in page.text.split("<g>") if re.search(f"<text[^>]*>{panel}", part))
    return re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', drawn)


def test_a_busy_moment_makes_no_result_slower_than_another(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    page = _compared(person, _ended(service, model, 1.5), _ended(service, model, 60.0))
    first, second = _heights(page)
    assert first == second, "both took a third of what the original took beside them"
    assert read(page).count("3.00× faster (between 2.95 and 3.05)") == 6, "in titles and list"
    assert "60.00 ms → 20.00 ms" in read(page)


def test_figures_say_what_they_are_where_columns_have_no_room(
    person: httpx.Client, service: Service
) -> None:
    page = _compared(person, _ended(service, service.model(), 60.0)).text
    cells = re.findall(r'<td class="[^"]+" (data-[^>]+)>', page)
    names = ["Size", "Speed", "Multiply–accumulates", "Quality", "Verdict"]
    assert cells[5:] == [f'data-label="{name}"' for name in names]
    assert cells[1] == "data-none", "the original has no speed of its own: a card leaves it out"


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
    assert "the same speed (between 0.99 and 1.01)" in read(page)


def test_a_time_that_is_not_certain_is_said_to_be_so(
    person: httpx.Client, service: Service
) -> None:
    page = _compared(person, _ended(service, service.model(), 1.5, certain=False))
    assert "not certain (the machine was busy: 2.95 to 3.05 times as fast)" in read(page)


def test_times_of_a_busy_moment_do_not_contradict_the_ratio(
    person: httpx.Client, service: Service
) -> None:
    """Medians of 60 and 20 ms beside a ratio of 1.38 to 1.79 would be two answers."""
    spread = {"median": 60.0, "p10": 50.0, "p90": 90.0, "runs": 8}
    busy = {
        "original": spread, "compressed": {**spread, "median": 20.0}, "speedup": 1.5,
        "speedup_low": 1.38, "speedup_high": 1.79, "certain": False,
    }  # fmt: skip
    job = _ended(service, service.model(), 60.0, **busy, one_thread=None)
    page = read(_compared(person, job))
    assert "60.00 ms → 33.52 ms to 43.48 ms" in page
    alone = {
        "original": {**spread, "median": 90.0}, "compressed": {**spread, "median": 69.0},
        "speedup": 1.3, "speedup_low": 1.28, "speedup_high": 1.32, "certain": True,
    }  # fmt: skip
    job = _ended(service, service.model(), 60.0, **busy, one_thread=alone)
    page = read(_compared(person, job))
    assert "1.30× faster between 1.28 and 1.32, with one thread 90.00 ms → 69.00 ms" in page
    report = read(person.get(f"/jobs/{job}/report"))
    assert "with one thread: the machine was too busy to tell with" in report
    assert "20.00 ms" not in report


def test_what_was_not_timed_is_not_drawn_as_the_fastest(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    page = _compared(person, _ended(service, model, None), _ended(service, model, 1.5))
    assert len(_heights(page)) == 1
    assert "1 has no dot in the upper part: not timed." in read(page)


def test_an_earlier_report_without_an_interval_is_compared_by_its_two_times(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    earlier = _ended(service, model, 3.0)
    with service.store.begin() as session:
        session.get_one(JobRow, earlier).evaluation = None
    first, second = _heights(_compared(person, earlier, _ended(service, model, 1.5)))
    assert first == second


def test_lost_quality_has_an_axis_where_results_are_judged_alike(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    jobs = [_ended(service, model, 1.5) for _ in range(4)]
    judged = {"metric": "top1", "split": "held_out", "samples": 20}
    with service.store.begin() as session:
        for job, value in zip(jobs, (0.9, 0.88, 0.92, None), strict=True):
            row = session.get_one(JobRow, job)
            after = {**STEP_REPORT["after"], "quality": value and {**judged, "value": value}}
            row.compressed = after
    for address in (
        f"/models/{model}",
        f"/jobs/{jobs[0]}",
    ):
        page = person.get(address)
        assert "top1 lost, up to 2 points" in read(page)
        assert len(_heights(page)) == 4
        assert len(_heights(page, "top1")) == 3, "what was judged otherwise has no place there"
        assert re.search(r"\d has no dot in the lower part: judged by another figure\.", read(page))
        link = re.search(r'href="(/jobs/compare[^"]+)"', page.text)
        assert link is not None
        assert read(person.get(unescape(link[1]))).count("Quantization") >= 4
    heights = [float(each) for each in _heights(_compared(person, *jobs), "top1")]
    assert heights[1] < heights[0] < heights[2], "what lost more stands higher"


def test_answers_that_changed_are_an_axis_where_there_are_no_labels(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    jobs = [_ended(service, model, 1.5) for _ in range(2)]
    with service.store.begin() as session:
        for job in jobs:
            row = session.get_one(JobRow, job)
            row.baseline = {**MEASURES, "quality": None}
            explained = -520.0 if job == jobs[0] else 0.75
            near = {**FIDELITY, "bounded": "explained", "explained": explained}
            row.compressed = {**STEP_REPORT["after"], "quality": None, "fidelity": near}
    page = _compared(person, *jobs)
    assert "variance lost, up to 31.25 % or more" in read(page)
    first, second = (float(each) for each in _heights(page, "variance"))
    assert first < second, "noise stands at the upper edge, and leaves room for the other"


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        ("gain", (30.0, 28.5), "mdl_1 lost, up to 1.5"),
        ("error", (0.2, 0.3), "mdl_1 added, up to 50.00 % of its value"),
        ("rate", (0.02, 0.05), "mdl_1 added, up to 3 points"),
    ],
)
def test_a_loss_has_the_unit_of_its_metric(
    person: httpx.Client, service: Service, kind: str, values: tuple[float, float], name: str
) -> None:
    job = _ended(service, service.model(), 1.5)
    judged = {"metric": "mdl_1", "kind": kind, "split": "held_out", "samples": 20}
    with service.store.begin() as session:
        row = session.get_one(JobRow, job)
        row.baseline = {**MEASURES, "quality": {**judged, "value": values[0]}}
        row.compressed = {**STEP_REPORT["after"], "quality": {**judged, "value": values[1]}}
    assert f"{name} " in read(_compared(person, job))
