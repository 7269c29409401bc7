"""Everybody can read every page: in light and dark, on a phone, with a screen reader."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.e2e.service import Service
from tests.e2e.visits import WIDE, labelled_images, visiting
from tests.waiting import eventually

SERIOUS = {"serious", "critical"}
PICTURES = os.environ.get("PLANISH_PICTURES")
"""A directory where a picture of every page is kept."""

SHIFTED = """() => new Promise(resolve => {
    let moved = 0;
    const watch = list => list.getEntries().forEach(shift => { moved += shift.value; });
    new PerformanceObserver(watch).observe({type: "layout-shift", buffered: true});
    requestAnimationFrame(() => setTimeout(() => resolve(moved)));
})"""
MOST_SHIFTED = 0.1
"""The cumulative layout shift that web.dev/articles/cls calls good."""

HIDDEN = """() => [...document.querySelectorAll(".cards td:not([data-none])")]
    .filter(cell => cell.checkVisibility() && cell.textContent.trim())
    .filter(cell => cell.getBoundingClientRect().right > innerWidth)
    .map(cell => cell.textContent)"""
"""What tables of things have beyond the edge of a phone."""

WAYS: dict[str, dict[str, Any]] = {
    "light": {"viewport": WIDE, "color_scheme": "light"},
    "dark": {"viewport": {"width": 360, "height": 760}, "color_scheme": "dark"},
}
"""How pages are looked at: wide in light, in dark on a phone. No colour depends on the width."""


@pytest.fixture(scope="module")
def pages(running_service: Service, model: str) -> Iterator[dict[str, str]]:
    """The address of every page, by its name; where things are shown, there are some."""
    service = running_service
    job = service.submit(
        model, name="a job", steps=[{"method": "quantize", "mode": "dynamic", "force": True}]
    )
    service.finished(job)
    made = service.http.post("/v1/datasets?filename=data.npz", content=labelled_images()).json()
    address = f"/v1/datasets/{made['id']}"
    eventually(lambda: service.http.get(address).json()["status"] == "ready")
    chart = service.http.post(f"/v1/models/{model}/sensitivity", json={"dataset": made["id"]})
    assert service.finished(chart.json()["id"])["status"] == "succeeded"
    nobody = {"url": "http://127.0.0.1:9/", "events": ["job.cancelled"]}
    hook = "/v1/webhooks/" + service.http.post("/v1/webhooks", json=nobody).json()["id"]
    service.http.post(f"{hook}/test").raise_for_status()
    eventually(lambda: service.http.get(f"{hook}/deliveries").json()["items"][0]["attempts"])
    yield {
        "start": "/",
        "models": "/models",
        "model": f"/models/{model}",
        "datasets": "/datasets",
        "dataset": f"/datasets/{made['id']}",
        "jobs": "/jobs",
        "sensitivity": f"/models/{model}/sensitivity",
        "graph": f"/models/{model}/graph",
        "advice": f"/jobs/new?model={model}",
        "new-job": f"/jobs/new?model={model}&dataset={made['id']}&goal=both",
        "student": f"/jobs/new?model={model}&dataset={made['id']}&step=distill",
        "job": f"/jobs/{job}",
        "report": f"/jobs/{job}/report",
        "compare": f"/jobs/compare?job={job}",
        "devices": "/devices",
        "search": f"/searches/new?model={model}",
        "webhooks": "/webhooks",
        "webhook": hook.removeprefix("/v1"),
        "keys": "/keys",
        "usage": "/usage",
        "api": "/docs",
        "not-found": "/jobs/job_0",
    }
    service.http.delete(hook).raise_for_status()


@pytest.mark.parametrize("way", WAYS)
def test_every_page_can_be_read_by_everybody(
    chromium: Browser, service: Service, pages: dict[str, str], way: str
) -> None:
    with visiting(chromium, service, ("404 (Not Found)",), **WAYS[way]) as page:
        for name, path in pages.items():
            page.goto(path)
            findings = Axe().run(page).response["violations"]
            serious = [each["help"] for each in findings if each["impact"] in SERIOUS]
            assert serious == [], name
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            assert page.evaluate(SHIFTED) < MOST_SHIFTED, name
            if way == "dark":
                assert page.evaluate(HIDDEN) == [], name
            if PICTURES is not None:
                page.screenshot(path=Path(PICTURES) / f"{name}-{way}.png", full_page=True)
