"""``/metrics`` has what dashboards, alerts and the scaler name, and what workers count."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.store import counters, stats
from app.store.session import Sessions
from tests.app.claiming import claim_next
from tests.app.service import Service
from workers.figures import Figures

DEPLOY = Path(__file__).parents[2] / "deploy"
_NAME = re.compile(r"\bplanish_\w+")
_MATCHER = re.compile(r"(planish_\w+)\{([^}]*)\}")


def families(service: Service) -> dict[str, Metric]:
    text = httpx.get(f"{service.url}/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def expressions() -> Iterator[str]:
    """Yield every expression that the files have."""
    board = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    rules = yaml.safe_load((DEPLOY / "monitoring" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for manifest in (DEPLOY / "kubernetes").glob("*.yaml"):
        yield from (
            metric["external"]["metric"]["name"]
            for each in yaml.safe_load_all(manifest.read_text())
            for metric in each.get("spec", {}).get("metrics", [])
        )


def test_whatever_the_files_name_exists_with_its_labels(service: Service) -> None:
    service.finish(service.job()["id"])
    service.worker("onnx")
    shown = families(service)
    samples = {sample.name: sample for family in shown.values() for sample in family.samples}
    named = {name for each in expressions() for name in _NAME.findall(each)}
    assert len(named) > 10
    assert named <= set(samples)
    for each in expressions():
        for name, matchers in _MATCHER.findall(each):
            labels = {matcher.partition("=")[0].strip(" !~") for matcher in matchers.split(",")}
            assert labels <= set(samples[name].labels), each


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    rules: Any = yaml.safe_load((DEPLOY / "monitoring" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "action"}
            assert rule["labels"]["severity"] in {"warning", "critical"}


def test_what_workers_count_is_shown_and_survives_them(service: Service) -> None:
    figures = [Figures(), Figures()]
    figures[0].add(counters.CLAIMS, "job")
    figures[0].add(counters.ENGINE_DEATHS, "memory")
    figures[1].add(counters.CLAIMS, "job", 2)
    with figures[1].timed("fetch"):
        pass
    for each in figures:
        report(service.store, each)
        report(service.store, each)
    shown = families(service)
    assert value(shown, "planish_worker_claims", kind="job") == 3
    assert value(shown, "planish_worker_claims", kind="dataset") == 0
    assert value(shown, "planish_engine_deaths", reason="memory") == 1
    assert value(shown, "planish_worker_stage_seconds", stage="fetch") >= 0


def test_what_waits_and_runs_is_counted_up_to_a_bound(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = {"url": "https://x.example", "events": ["job.succeeded"]}
    assert service.http.post("/v1/webhooks", json=hook).status_code == 201
    for _ in range(3):
        service.finish(service.job()["id"])
    service.job()
    service.job()
    claim_next(service)
    shown = families(service)
    counts = {each.labels["status"]: each.value for each in shown["planish_jobs"].samples}
    assert counts == {"queued": 1, "running": 1, "succeeded": 3, "failed": 0, "cancelled": 0}
    assert value(shown, "planish_webhook_backlog") == 3
    monkeypatch.setattr(stats, "COUNTED", 2)
    assert value(families(service), "planish_webhook_backlog") == 2


def report(store: Sessions, figures: Figures) -> None:
    with store.begin() as session:
        for name, amounts in figures.take().items():
            counters.add(session, name, amounts)


def value(shown: dict[str, Metric], name: str, **labels: str) -> float:
    [found] = [each.value for each in shown[name].samples if each.labels == labels]
    return float(found)
