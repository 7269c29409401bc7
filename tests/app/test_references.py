"""``POST /v1/models`` and ``/v1/datasets`` with an address in place of bytes."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.sources import Address, AddressError
from app.settings import Settings
from app.store.session import Sessions
from app.store.tables import FetchRow, ModelRow
from tests.app.service import Service, pointers
from tests.app.serving import serving_two

PLACES = "https://models.example.com/released, s3://bucket/{tenant}?region=eu-west-1"
URL = "https://models.example.com/released/net.onnx"


@pytest.fixture
def fetching(settings: Settings, store: Sessions) -> Iterator[Service]:
    """A gateway that may name places to fetch from; no worker fetches."""
    given = {**settings.model_dump(), "fetch": {"allowed": PLACES}, "quota": {"uploads": 3}}
    with serving_two(Settings.model_validate(given), store) as running:
        yield running


def test_a_model_is_named_by_its_address(fetching: Service) -> None:
    hints = {"architecture": "timm/resnet18", "inputs": [{"shape": ["N", 3, 32, 32]}]}
    answer = fetching.http.post("/v1/models", json={"url": URL, "name": "mine", **hints})
    assert answer.status_code == 202, answer.text
    model = answer.json()
    assert (model["status"], model["name"], model["filename"]) == ("inspecting", "mine", "net.onnx")
    assert (model["sha256"], model["size_bytes"]) == ("", 0), "its bytes are not here"
    with fetching.store() as session:
        row = session.get_one(ModelRow, model["id"])
        assert row.hints["architecture"] == "timm/resnet18"
        assert row.hints["inputs"][0]["shape"] == ["N", 3, 32, 32]
    path = f"/v1/models/{model['id']}"
    assert fetching.http.get(f"{path}/content").status_code == 409
    assert fetching.http.get("/v1/models").json()["items"][0] == model
    assert fetching.other.get(path).status_code == 404
    assert fetching.other.delete(path).status_code == 404
    assert URL not in answer.text
    assert fetching.http.delete(path).status_code == 204
    with fetching.store() as session:
        assert session.get(FetchRow, model["id"]) is None


def test_a_dataset_is_named_by_its_address_and_a_job_waits_for_it(fetching: Service) -> None:
    body = {"url": URL, "filename": "data.npz", "mean": [0.5], "std": [0.25]}
    answer = fetching.http.post("/v1/datasets", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["filename"] == "data.npz"
    judged = fetching.http.post("/v1/datasets", json=body).json()["id"]
    evaluate = {"evaluate": {"dataset": judged}}
    job = fetching.job(fetching.model(), dataset=answer.json()["id"], **evaluate)
    assert job["status"] == "queued"


def test_a_repeated_request_is_done_once(fetching: Service) -> None:
    headers = {"Idempotency-Key": "k"}
    first, again = (
        fetching.http.post("/v1/models", json={"url": URL}, headers=headers) for _ in range(2)
    )
    assert (again.status_code, again.json()) == (202, first.json())
    other = fetching.http.post("/v1/models", json={"url": f"{URL}2"}, headers=headers)
    assert other.json()["type"] == "idempotency-mismatch"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/url"),
        ({"url": 1}, "#/url"),
        ({"url": "a" * 2001}, "#/url"),
        ({"url": "ftp://models.example.com/released/a"}, "#/url"),
        ({"url": "https://user:password@models.example.com/released/a"}, "#/url"),
        ({"url": URL, "sha256": "abc"}, "#/sha256"),
        ({"url": URL, "headers": {}}, "#/headers"),
        ({"url": URL, "inputs": [{"shape": ["N", 0]}]}, "#/inputs/0/shape/1"),
        ({"url": URL, "architecture": "os.system"}, "#/architecture"),
        ([], "#"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(fetching: Service, body: Any, pointer: str) -> None:
    answer = fetching.http.post("/v1/models", json=body)
    assert answer.status_code == 422, answer.text
    assert pointers(answer)[0] == pointer


def test_a_body_that_is_no_json_or_too_long_is_refused(fetching: Service) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    for content in (b"{", b"\xff", b"[" * 50_000):
        answer = fetching.http.post("/v1/models", content=content, headers=headers)
        assert answer.status_code == 400, answer.text
    long = fetching.http.post("/v1/models", content=b" " * 70_000, headers=headers)
    assert long.status_code == 413
    both = fetching.http.post("/v1/models?upload_id=upl_1", json={"url": URL})
    assert pointers(both) == ["#/query/upload_id"]


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.com/released/net.onnx",
        "https://models.example.com:8443/released/net.onnx",
        "http://models.example.com/released/net.onnx",
        "https://models.example.com/secret/net.onnx",
        "https://models.example.com/released-too/net.onnx",
        "https://models.example.com.evil.test/released/net.onnx",
        "https://evil.test/https://models.example.com/released/net.onnx",
        "s3://bucket/other/net.onnx",
        "s3://bucket/acme-too/net.onnx",
        "s3://elsewhere/acme/net.onnx",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/released/net.onnx",
    ],
)
def test_other_places_are_not_available(fetching: Service, url: str) -> None:
    answer = fetching.http.post("/v1/models", json={"url": url})
    assert (answer.status_code, answer.json()["type"]) == (422, "not-available"), answer.text
    assert "FETCH_ALLOWED" in answer.json()["detail"]
    assert pointers(answer) == ["#/url"]


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example.com/released/../secret",
        "https://models.example.com/released/%2e%2e/secret",
        "https://models.example.com/released/%252e%252e/secret",
        "https://models.example.com/released/..%2fsecret",
        "https://models.example.com/released/..\\secret",
        "https://models.example.com\\@evil.test/released/a",
        "https://models.example.com#@evil.test/released/a",
        "https://models.example.com@evil.test/released/a",
        "https://models.example.com/released/a b",
        "https://models.example.com/released/a\r\nX: y",
        "https://mod\u00e9ls.example.com/released/a",
        "https:///released/a",
        "https://models.example.com:port/a",
        "file:///etc/passwd",
        "s3://bucket/acme/../other/net.onnx",
        "s3://bucket/acme/net.onnx?endpoint=http://169.254.169.254",
    ],
)
def test_no_address_is_read_in_two_ways(url: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(url)


def test_the_place_of_a_tenant_is_its_own(fetching: Service) -> None:
    url = "s3://bucket/acme/net.onnx"
    assert fetching.http.post("/v1/models", json={"url": url}).status_code == 202
    assert fetching.other.post("/v1/models", json={"url": url}).json()["type"] == "not-available"


def test_a_tenant_waits_for_so_many_files_at_one_time(fetching: Service) -> None:
    for _ in range(3):
        assert fetching.http.post("/v1/models", json={"url": URL}).status_code == 202
    full = fetching.http.post("/v1/models", json={"url": URL})
    assert (full.status_code, full.headers["retry-after"]) == (429, "60")
    assert fetching.other.post("/v1/models", json={"url": URL}).status_code == 202


def test_where_no_place_is_named_nothing_is_fetched(service: Service) -> None:
    answer = service.http.post("/v1/models", json={"url": URL})
    assert (answer.status_code, answer.json()["type"]) == (422, "not-available")
    assert "FETCH_ALLOWED" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ("https://", "host"),
        ("ftp://host/path", "https"),
        ("https://host/path?query=1", "only a place of s3"),
        ("s3://own", "STORAGE_URL"),
        ("s3://own/planish/blobs", "STORAGE_URL"),
    ],
)
def test_a_place_that_cannot_be_is_found_at_the_start(allowed: str, words: str) -> None:
    storage = {"url": "s3://own/planish?region=eu-west-1"}
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate({"fetch": {"allowed": allowed}, "storage": storage})
    beside = {"fetch": {"allowed": "s3://own/models"}, "storage": storage}
    assert Settings.model_validate(beside).fetch.places[0].path == "/models"
