"""Tenants: what is another's does not exist, on any route, in any body, query or list.

The routes and the ids in them are read from the API's description: a new one has to be added here.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.main import create_app
from app.settings import Settings
from app.store.tables import Table
from tests.app.boards import register
from tests.app.service import DYNAMIC, Service, pointers

WITH_AN_ID: dict[tuple[str, str], dict[str, Any]] = {
    ("get", "/v1/models/{model_id}"): {},
    ("delete", "/v1/models/{model_id}"): {},
    ("get", "/v1/models/{model_id}/content"): {},
    ("get", "/v1/models/{model_id}/recommendations"): {},
    ("get", "/v1/models/{model_id}/prices"): {},
    ("get", "/v1/models/{model_id}/sensitivity"): {},
    ("post", "/v1/models/{model_id}/sensitivity"): {"json": {"dataset": f"dst_{'0' * 24}"}},
    ("get", "/v1/datasets/{dataset_id}"): {},
    ("delete", "/v1/datasets/{dataset_id}"): {},
    ("get", "/v1/uploads/{upload_id}"): {},
    ("patch", "/v1/uploads/{upload_id}"): {
        "headers": {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"},
        "content": b"x",
    },
    ("delete", "/v1/uploads/{upload_id}"): {},
    ("get", "/v1/uploads/{upload_id}/parts"): {},
    ("post", "/v1/uploads/{upload_id}/complete"): {"json": {}},
    ("get", "/v1/jobs/{job_id}"): {},
    ("delete", "/v1/jobs/{job_id}"): {},
    ("post", "/v1/jobs/{job_id}/cancel"): {},
    ("post", "/v1/jobs/{job_id}/retry"): {},
    ("get", "/v1/jobs/{job_id}/artifacts"): {},
    ("get", "/v1/jobs/{job_id}/events"): {"headers": {"Last-Event-ID": "1"}},
    ("get", "/v1/jobs/{job_id}/report"): {},
    ("get", "/v1/jobs/{job_id}/measurements"): {},
    ("get", "/v1/jobs/{job_id}/front"): {},
    ("post", "/v1/jobs/{job_id}/front/{point}/take"): {},
    ("get", "/v1/devices/{device_id}"): {},
    ("delete", "/v1/devices/{device_id}"): {},
    ("post", "/v1/devices/{device_id}/measurements/claim"): {},
    ("post", "/v1/devices/{device_id}/measurements/{measurement_id}/renew"): {"json": {"token": 1}},
    ("post", "/v1/devices/{device_id}/measurements/{measurement_id}/report"): {
        "json": {"token": 1, "sha256": "0" * 64, "problem": "it crashed"}
    },
    ("get", "/v1/artifacts/{artifact_id}/content"): {"headers": {"Range": "bytes=0-1"}},
    ("get", "/v1/webhooks/{webhook_id}"): {},
    ("patch", "/v1/webhooks/{webhook_id}"): {"json": {"enabled": False}},
    ("delete", "/v1/webhooks/{webhook_id}"): {},
    ("post", "/v1/webhooks/{webhook_id}/rotate"): {},
    ("post", "/v1/webhooks/{webhook_id}/test"): {},
    ("get", "/v1/webhooks/{webhook_id}/deliveries"): {},
    ("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"): {},
}
"""Every route that has an id in its path, and how it is called."""

NOT_HERE = {"/v1/uploads/{upload_id}/parts"}
"""What this deployment lacks: 422 for its owner."""

NOT_YET = {"/v1/models/{model_id}/sensitivity", "/v1/jobs/{job_id}/front"}
"""What its owner has not measured or asked for here: 404 for the owner too."""


def _distilled(**parameters: Any) -> dict[str, Any]:
    """Return what makes a request's one step a distillation."""
    return {"steps": [{"method": "distill", **parameters}]}


IN_A_BODY: dict[str, tuple[str, Callable[["Acme"], dict[str, Any]]]] = {
    "JobRequest.model": ("#/model", lambda acme: {"model": acme.ids["model_id"][0]}),
    "JobRequest.dataset": ("#/dataset", lambda acme: {"dataset": acme.ids["dataset_id"][0]}),
    "Evaluate.dataset": (
        "#/evaluate/dataset",
        lambda acme: {"evaluate": {"dataset": acme.ids["dataset_id"][0]}},
    ),
    "MetricGraph.model": (
        "#/evaluate/metric/model",
        lambda acme: {"evaluate": {"metric": {"model": acme.ids["model_id"][0]}}},
    ),
    "Uploaded.model": (
        "#/steps/0/student/model",
        lambda acme: _distilled(student={"model": acme.ids["model_id"][0]}),
    ),
    "Distill.teacher": (
        "#/steps/0/teacher",
        lambda acme: _distilled(teacher=acme.ids["model_id"][0]),
    ),
}
"""Every field of a job's request that names something of the tenant's: pointer and fault."""

OF_A_CHART = {"SensitivityRequest.dataset"}
"""Every field of a request for a chart that names something of the tenant's."""

IN_A_QUERY = {("get", "/v1/jobs", "model")}
"""Every parameter that names something of the tenant's, to choose from a list."""

TAKEN = {("post", "/v1/models", "upload_id"), ("post", "/v1/datasets", "upload_id")}
"""Every parameter that names an upload, to make something of it."""

LISTS = {"/v1/models", "/v1/datasets", "/v1/jobs", "/v1/webhooks", "/v1/devices"}
"""Every list of all that a tenant has."""

_ID, _NEVER = re.compile(r"([a-z]{3})_[0-9a-f]{24}"), rf"\1_{'0' * 24}"
_NAMES = (
    "model", "dataset", "job", "artifact", "webhook", "delivery", "upload", "measurement",
)  # fmt: skip
_PREFIXES = ("^mdl_", "^dst_", "^job_", "^art_", "^whk_", "^dev_")


@pytest.fixture
def described(settings: Settings) -> dict[str, Any]:
    schema: dict[str, Any] = create_app(settings).openapi()
    return schema


@dataclass(frozen=True)
class Acme:
    """What the tenant has: ids of everything, jobs in every state."""

    ids: dict[str, list[str]]

    def urls(self, path: str) -> Iterator[str]:
        """Yield a path with every one of the ids that belong into it."""
        names = [name for name in self.ids if f"{{{name}}}" in path]
        for chosen in product(*(self.ids[name] for name in names)):
            yield path.format(**dict(zip(names, chosen, strict=True)))


@pytest.fixture
def acme(service: Service, timed_runs: None) -> Acme:
    model, dataset = service.model(), service.dataset()
    board, _ = (register(service.http, name=name)["id"] for name in ("board", "another"))
    jobs = {
        state: service.job(model, dataset=dataset, **more)["id"]
        for state, more in (
            ("queued", {}),
            ("running", {}),
            ("failed", {}),
            ("succeeded", {"target": "board"}),
        )
    }
    service.start(jobs["running"])
    artifacts = [service.finish(jobs["failed"], failed=True), service.finish(jobs["succeeded"])]
    measurements = service.http.get(f"/v1/jobs/{jobs['succeeded']}/measurements").json()["items"]
    hooks = [
        service.http.post("/v1/webhooks", json={"url": "https://example.com/"}).json()["id"]
        for _ in range(2)
    ]
    delivery = service.http.post(f"/v1/webhooks/{hooks[0]}/test").json()["id"]
    begun = service.http.post("/v1/uploads", headers={"Upload-Length": "9"})
    upload = begun.json()["id"]
    return Acme(
        {
            "model_id": [model, service.model(b"another" * 20)],
            "dataset_id": [dataset, service.dataset()],
            "job_id": list(jobs.values()),
            "artifact_id": artifacts,
            "webhook_id": [hooks[0]],
            "delivery_id": [delivery],
            "upload_id": [upload],
            "point": [jobs["succeeded"]],
            "device_id": [board],
            "measurement_id": [each["id"] for each in measurements],
        }
    )


def _stored(service: Service) -> dict[str, list[str]]:
    """Return all rows of all tables."""
    with service.store() as session:
        return {
            table.name: sorted(map(repr, session.execute(select(table)).all()))
            for table in Table.metadata.sorted_tables
        }


def _does_not_exist(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 404
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["type"] == "not-found"
    )


def test_every_route_with_an_id_is_known_here(described: dict[str, Any]) -> None:
    found = {
        (method, path)
        for path, operations in described["paths"].items()
        for method in operations
        if "{" in path
    }
    assert found == set(WITH_AN_ID)


def test_every_id_in_a_body_or_query_is_known_here(described: dict[str, Any]) -> None:
    asked = {name for name, schema in _asked(described) if _names_something(name, schema)}
    assert asked == set(IN_A_BODY) | OF_A_CHART
    assert {
        (method, path, parameter["name"])
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and _names_something(parameter["name"], parameter["schema"])
    } == IN_A_QUERY | TAKEN


def _asked(described: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every field of every request body, however deep."""
    schemas = described["components"]["schemas"]
    waiting = [
        operation["requestBody"]
        for operations in described["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    ]
    seen = set[str]()
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            for name, schema in part.get("properties", {}).items():
                yield f"{part.get('title')}.{name}", schema
            waiting += part.values()
            _, _, referred = str(part.get("$ref", "")).rpartition("/")
            if referred and referred not in seen:
                seen.add(referred)
                waiting.append(schemas[referred])


def _names_something(name: str, schema: Any) -> bool:
    text = json.dumps(schema)
    is_text = '"type": "string"' in text and '"properties"' not in text
    return is_text and (
        name.rpartition(".")[2].removesuffix("_id") in _NAMES
        or any(prefix in text for prefix in _PREFIXES)
    )


def test_no_route_knows_another_tenants_ids_and_none_changes_anything(
    service: Service, acme: Acme
) -> None:
    service.other.get("/v1/models")  # notes that the key is used
    before = _stored(service)
    for (method, path), more in WITH_AN_ID.items():
        for url in acme.urls(path):
            answer = service.other.request(method, url, **more)
            assert _does_not_exist(answer), (method, url, answer.text)
            if method == "get":
                expected = {200, 409}
                expected |= {404} if path in NOT_YET else {422} if path in NOT_HERE else set()
                assert service.http.get(url.removesuffix("/events")).status_code in expected
    for path in ("/v1/models/{model_id}/content", "/v1/artifacts/{artifact_id}/content"):
        for url in acme.urls(path):
            assert service.other.head(url).status_code == 404
            assert service.http.head(url).status_code == 200
    assert _stored(service) == before


def test_what_is_anothers_looks_like_what_never_was(service: Service, acme: Acme) -> None:
    for (method, path), more in WITH_AN_ID.items():
        url = next(acme.urls(path))
        shown = service.other.request(method, url, **more)
        expected = service.other.request(method, _ID.sub(_NEVER, url), **more)
        assert _ID.sub(_NEVER, shown.text) == expected.text, (method, path)


def test_an_own_webhook_does_not_reach_anothers_delivery(service: Service, acme: Acme) -> None:
    own = service.other.post("/v1/webhooks", json={"url": "https://example.com/"}).json()["id"]
    before = _stored(service)
    for delivery in acme.ids["delivery_id"]:
        url = f"/v1/webhooks/{own}/deliveries/{delivery}/redeliver"
        assert _does_not_exist(service.other.post(url))
    assert _stored(service) == before


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/plan"])
def test_anothers_id_in_a_body_is_refused_at_its_pointer(
    service: Service, acme: Acme, path: str
) -> None:
    own = service.other.post("/v1/models", content=b"mine" * 30).json()["id"]
    before = _stored(service)
    for pointer, fault in IN_A_BODY.values():
        body = {"model": own, "steps": DYNAMIC, **fault(acme)}
        answer = service.other.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert pointers(answer) == [pointer]
    assert _stored(service) == before


def test_a_chart_is_not_measured_on_anothers_data(service: Service, acme: Acme) -> None:
    own = service.other.post("/v1/models", content=b"mine" * 30).json()["id"]
    answer = service.other.post(
        f"/v1/models/{own}/sensitivity", json={"dataset": acme.ids["dataset_id"][0]}
    )
    assert (answer.status_code, pointers(answer)) == (422, ["#/dataset"])


def test_lists_and_their_cursors_show_nothing_of_anothers(
    service: Service, acme: Acme, described: dict[str, Any]
) -> None:
    lists = {
        path
        for path, operations in described["paths"].items()
        if "{" not in path
        and "cursor" in {each["name"] for each in operations.get("get", {}).get("parameters", ())}
    }
    assert lists == LISTS
    for path in lists:
        cursor = service.http.get(path, params={"limit": 1}).json()["next_cursor"]
        assert cursor is not None
        for query in ({}, {"cursor": cursor}):
            answer = service.other.get(path, params=query)
            assert answer.json() == {"items": [], "next_cursor": None}, path


def test_a_filter_by_anothers_id_shows_nothing(service: Service, acme: Acme) -> None:
    for _, path, name in IN_A_QUERY:
        for named in acme.ids[f"{name}_id"]:
            assert service.other.get(path, params={name: named}).json()["items"] == []


def test_nothing_is_made_of_anothers_upload(service: Service, acme: Acme) -> None:
    for method, path, name in TAKEN:
        answer = service.other.request(method, path, params={name: acme.ids[name][0]})
        assert (answer.status_code, pointers(answer)) == (422, [f"#/query/{name}"])


def test_anothers_idempotency_key_is_another_key(service: Service, acme: Acme) -> None:
    key = {"Idempotency-Key": "shared"}
    for path in ("/v1/models", "/v1/datasets"):
        theirs = service.http.post(path, content=b"theirs" * 30, headers=key)
        own = service.other.post(path, content=b"own" * 30, headers=key)
        assert (theirs.status_code, own.status_code) == (201, 201)
        assert own.json()["id"] != theirs.json()["id"]
        again = service.other.post(path, content=b"own" * 30, headers=key)
        assert again.content == own.content
        assert "idempotent-replay" in again.headers
    for (method, path), more in WITH_AN_ID.items():
        if method == "post":
            url = next(acme.urls(path))
            service.http.post(url, headers=key)
            assert _does_not_exist(service.other.post(url, **more, headers=key)), url
