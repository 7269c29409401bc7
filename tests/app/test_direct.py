"""Uploads whose bytes go to the storage itself, and pass no gateway."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import func, text, update

import planish
from app.services import keys, tenants
from app.settings import Settings
from app.store.session import Sessions
from app.store.tables import FetchRow, UploadRow
from tests import s3
from tests.app.service import Service, pointers, sha256
from tests.app.serving import serving_two
from tests.app.test_resumable import BYTES, CONTENT, TUS
from tests.gateway import serving
from tests.workers.worker import worker_with
from workers.fetching.fetch import fetch_next
from workers.worker import Worker

STARTS = [0, 300_000, 600_000]


@dataclass(frozen=True)
class Direct:
    """A gateway whose storage takes parts of 300,000 bytes, and a worker."""

    service: Service
    worker: Worker
    endpoint: str
    prefix: str

    def begin(self, **metadata: str) -> str:
        pairs = {"filename": "net.onnx", **metadata}
        said = [f"{n} {base64.b64encode(v.encode()).decode()}" for n, v in pairs.items()]
        headers = {**TUS, "Upload-Length": str(len(CONTENT)), "Upload-Metadata": ",".join(said)}
        made = self.service.http.post("/v1/uploads", headers=headers)
        assert made.json()["direct"] is True
        return str(made.json()["id"])

    def parts(self, upload: str) -> list[dict[str, Any]]:
        answer = self.service.http.get(f"/v1/uploads/{upload}/parts")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    def put(self, part: dict[str, Any], data: bytes | None = None) -> str:
        end = part["start"] + part["size_bytes"]
        answer = httpx.put(
            part["url"], content=CONTENT[part["start"] : end] if data is None else data
        )
        assert answer.status_code == 200
        return str(answer.headers["etag"])

    def complete(self, upload: str, etags: dict[int, str] | None = None) -> httpx.Response:
        parts = [{"start": start, "etag": etag} for start, etag in (etags or {}).items()]
        return self.service.http.post(f"/v1/uploads/{upload}/complete", json={"parts": parts})

    def whole(self, **metadata: str) -> str:
        upload = self.begin(**metadata)
        etags = {part["start"]: self.put(part) for part in self.parts(upload)}
        assert self.complete(upload, etags).json()["offset"] == len(CONTENT)
        return upload

    def model(self, upload: str) -> httpx.Response:
        return self.service.http.post("/v1/models", params={"upload_id": upload})

    def stored(self) -> list[str]:
        with s3.client(self.endpoint) as client:
            found = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{self.prefix}/")
        return sorted(
            str(each["Key"]).removeprefix(f"{self.prefix}/") for each in found.get("Contents", [])
        )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3.server() as endpoint:
        yield endpoint


@pytest.fixture
def direct(settings: Settings, store: Sessions, endpoint: str, tmp_path: Path) -> Iterator[Direct]:
    place = s3.url(endpoint, tmp_path.name)
    upload = {**settings.upload.model_dump(), "direct_url": place, "direct_part_bytes": 300_000}
    changes = {"storage": {"url": place}, "upload": upload}
    remote = Settings.model_validate({**settings.model_dump(), **changes})
    with serving_two(remote, store) as service, worker_with(remote, tmp_path) as worker:
        yield Direct(service, worker, endpoint, tmp_path.name)


# --- What comes of it -------------------------------------------------------------------------


def test_parts_that_the_storage_took_become_a_model_which_a_worker_reads(direct: Direct) -> None:
    upload = direct.whole(sha256=sha256(CONTENT).upper())
    made = direct.model(upload)
    assert made.status_code == 202, made.text
    model = made.json()
    assert (model["status"], model["filename"], model["size_bytes"]) == (
        "inspecting",
        "net.onnx",
        0,
    )
    assert fetch_next(direct.worker)
    now = direct.service.http.get(f"/v1/models/{model['id']}").json()
    assert (now["sha256"], now["size_bytes"]) == (sha256(CONTENT), len(CONTENT))
    content = direct.service.http.get(f"/v1/models/{model['id']}/content").content
    assert content == CONTENT
    assert [key.rpartition("/")[2] for key in direct.stored()] == [sha256(CONTENT)], "no part stays"


def test_one_upload_becomes_two_things_before_and_after_it_was_read(direct: Direct) -> None:
    upload = direct.whole()
    first, second = direct.model(upload).json()["id"], direct.model(upload).json()["id"]
    assert first != second
    assert fetch_next(direct.worker)
    assert fetch_next(direct.worker)
    third = direct.model(upload)
    assert third.status_code == 201, "its bytes are a blob by now"
    for model in (first, second, third.json()["id"]):
        assert direct.service.http.get(f"/v1/models/{model}").json()["sha256"] == sha256(CONTENT)


def test_a_repeated_request_makes_one_model(direct: Direct) -> None:
    upload = direct.whole()
    headers = {"Idempotency-Key": "once"}
    asked = f"/v1/datasets?upload_id={upload}"
    first, again = (direct.service.http.post(asked, headers=headers) for _ in range(2))
    assert (first.status_code, again.json()) == (202, first.json())
    assert fetch_next(direct.worker)
    late = direct.service.http.post(asked, headers=headers)
    assert (late.status_code, late.json()) == (202, first.json()), "its bytes are a blob by now"


def test_an_upload_goes_on_with_what_is_missing(direct: Direct) -> None:
    upload = direct.begin()
    parts = direct.parts(upload)
    assert [part["start"] for part in parts] == STARTS
    direct.put(parts[1])
    assert [part["start"] for part in direct.parts(upload)] == [0, 600_000]
    short = direct.complete(upload)
    assert (short.status_code, short.json()["type"]) == (409, "conflict")
    assert "2 of 3 parts" in short.json()["detail"]
    assert direct.model(upload).status_code == 409
    for part in direct.parts(upload):
        direct.put(part)
    assert direct.complete(upload).status_code == 200
    assert direct.complete(upload).status_code == 200, "again is fine"
    assert direct.service.http.get(f"/v1/uploads/{upload}/parts").status_code == 409


# --- What is refused --------------------------------------------------------------------------


def test_a_part_of_another_size_is_not_in_the_storage(direct: Direct) -> None:
    upload = direct.begin()
    for part in direct.parts(upload):
        direct.put(part)
    [first, *_] = direct.parts(direct.begin())
    assert first["size_bytes"] == 300_000
    other = direct.begin()
    for part in direct.parts(other):
        direct.put(part, b"x" * (part["size_bytes"] + 1))
    answer = direct.complete(other)
    assert answer.status_code == 409
    assert "300001 of its 300000 bytes" in answer.json()["detail"]


def test_a_part_that_is_shorter_since_the_upload_was_complete_makes_no_model(
    direct: Direct,
) -> None:
    upload = direct.begin()
    parts = direct.parts(upload)
    for part in parts:
        direct.put(part)
    assert direct.complete(upload).status_code == 200
    model = direct.model(upload).json()["id"]
    direct.put(parts[-1], b"x")
    fetch_next(direct.worker)
    now = direct.service.http.get(f"/v1/models/{model}").json()
    assert (now["status"], now["problem"]["type"]) == ("rejected", "fetch-failed")
    assert "a part was replaced" in now["problem"]["detail"]


def test_an_upload_whose_parts_are_gone_makes_nothing(direct: Direct) -> None:
    upload = direct.whole()
    direct.worker.blobs.forget_arrived(upload)
    answer = direct.model(upload)
    assert (answer.status_code, answer.json()["type"]) == (409, "conflict")


def test_an_address_is_good_no_longer_than_its_upload(direct: Direct) -> None:
    upload = direct.begin()
    for left, most in (("60 seconds", 60), ("2 hours", 3600)):
        with direct.service.store.begin() as session:
            expires = func.now() + text(f"interval '{left}'")
            session.execute(update(UploadRow).values(expires_at=expires))
        for part in direct.parts(upload):
            [seconds] = parse_qs(urlsplit(part["url"]).query)["X-Amz-Expires"]
            assert most - 30 < int(seconds) <= most


def test_an_id_that_is_no_place_of_the_storage_is_not_found(direct: Direct) -> None:
    for wrong in ("%0A", "%2E%2E%2E", "upl_none"):
        answer = direct.service.http.post(f"/v1/uploads/{wrong}/complete", json={})
        assert answer.status_code == 404, answer.text


def test_a_part_that_was_replaced_is_told(direct: Direct) -> None:
    upload = direct.begin()
    parts = direct.parts(upload)
    etags = {part["start"]: direct.put(part) for part in parts}
    direct.put(parts[1], b"x" * 300_000)
    answer = direct.complete(upload, etags)
    assert answer.status_code == 409
    assert "at byte 300000 was replaced" in answer.json()["detail"]
    large = direct.complete(upload, dict.fromkeys(range(9_000), "x" * 10))
    assert large.status_code == 413, "the body is no file"
    unknown = direct.complete(upload, {7: "x"})
    assert (unknown.status_code, pointers(unknown)) == (422, ["#/parts/0/start"])


def test_other_bytes_than_announced_become_no_model(direct: Direct) -> None:
    model = direct.model(direct.whole(sha256="0" * 64)).json()["id"]
    fetch_next(direct.worker)
    now = direct.service.http.get(f"/v1/models/{model}").json()
    assert (now["status"], now["problem"]["type"]) == ("rejected", "checksum-mismatch")


def test_what_is_announced_holds_for_bytes_that_come_to_the_gateway_too(service: Service) -> None:
    for digest, status in ((sha256(CONTENT), 201), ("0" * 64, 460)):
        said = f"sha256 {base64.b64encode(digest.encode()).decode()}"
        headers = {**BYTES, "Upload-Length": str(len(CONTENT)), "Upload-Metadata": said}
        made = service.http.post("/v1/uploads", content=CONTENT, headers=headers)
        answer = service.http.post("/v1/models", params={"upload_id": made.json()["id"]})
        assert answer.status_code == status, answer.text
    said = f"sha256 {base64.b64encode(b'abc').decode()}"
    headers = {**TUS, "Upload-Length": "1", "Upload-Metadata": said}
    assert service.http.post("/v1/uploads", headers=headers).status_code == 400


def test_what_its_first_bytes_show_to_be_no_model_makes_none(direct: Direct) -> None:
    upload = direct.begin()
    for part in direct.parts(upload):
        direct.put(part, b"MZ" + b"0" * (part["size_bytes"] - 2))
    direct.complete(upload)
    assert direct.model(upload).status_code == 415


def test_a_tenant_has_no_address_of_another_tenants_upload(direct: Direct) -> None:
    upload = direct.begin()
    other = direct.service.other
    assert other.get(f"/v1/uploads/{upload}/parts").status_code == 404
    assert other.post(f"/v1/uploads/{upload}/complete", json={}).status_code == 404


def test_a_key_that_may_only_read_gets_no_address_to_write_to(direct: Direct) -> None:
    upload = direct.begin()
    with direct.service.store.begin() as session:
        _, key = keys.create(session, "acme", "reader", ("read",))
    headers = {"Authorization": f"Bearer {key}"}
    refused = direct.service.http.get(f"/v1/uploads/{upload}/parts", headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (403, "forbidden")
    assert direct.service.http.get(f"/v1/uploads/{upload}", headers=headers).status_code == 200


def test_a_deployment_without_such_storage_says_so(service: Service) -> None:
    made = service.http.post("/v1/uploads", headers={**TUS, "Upload-Length": "10"}).json()
    assert made["direct"] is False
    refused = service.http.get(f"/v1/uploads/{made['id']}/parts")
    assert (refused.status_code, refused.json()["type"]) == (422, "not-available")
    assert "UPLOAD_DIRECT_URL" in refused.json()["detail"]
    with pytest.raises(ValidationError, match="signs no addresses"):
        Settings.model_validate({"upload": {"direct_url": "file:///tmp"}})


# --- Bounds -----------------------------------------------------------------------------------


def test_room_is_counted_once_and_given_back(direct: Direct) -> None:
    model = direct.model(direct.whole()).json()["id"]
    fetch_next(direct.worker)
    assert direct.service.http.get(f"/v1/models/{model}").json()["size_bytes"] == len(CONTENT)
    most = 4 * 1024**2
    begun = [
        direct.service.http.post("/v1/uploads", headers={**TUS, "Upload-Length": str(most)})
        for _ in range(4)
    ]
    assert [each.status_code for each in begun] == [201, 201, 201, 429]


def test_what_was_deleted_or_has_expired_leaves_nothing(direct: Direct) -> None:
    deleted, expired = direct.whole(), direct.whole()
    assert direct.service.http.delete(f"/v1/uploads/{deleted}", headers=TUS).status_code == 204
    assert not [key for key in direct.stored() if deleted in key]
    model = direct.model(expired).json()["id"]
    with direct.service.store.begin() as session:
        session.execute(update(UploadRow).values(expires_at=func.now()))
    fetch_next(direct.worker)
    now = direct.service.http.get(f"/v1/models/{model}").json()
    assert (now["status"], now["problem"]["type"]) == ("rejected", "fetch-failed")
    with direct.service.store() as session:
        assert session.get(FetchRow, model) is None


def test_a_deleted_tenant_leaves_no_part(direct: Direct) -> None:
    upload = direct.begin()
    direct.put(direct.parts(upload)[0])
    direct.whole()
    assert direct.stored()
    tenants.delete(direct.service.store, direct.worker.blobs, "acme")
    assert direct.stored() == []


# --- Our client -------------------------------------------------------------------------------


def test_our_client_sends_to_the_storage_by_itself(
    direct: Direct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planish._sync.uploads.LARGE_BYTES", 100_000)
    file = tmp_path / "net.onnx"
    file.write_bytes(CONTENT)
    with planish.Client(direct.service.url, direct.service.key) as client:
        model = client.models.upload(file, wait=False)
    with direct.service.store() as session:
        [upload] = session.query(UploadRow).all()
        assert upload.parts == 3
    assert fetch_next(direct.worker)
    now = direct.service.http.get(f"/v1/models/{model.id}").json()
    assert now["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_our_client_turns_to_the_gateway_where_the_storage_does_not_show_what_it_took(
    direct: Direct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator named another place than the storage's own."""
    monkeypatch.setattr("planish._sync.uploads.LARGE_BYTES", 100_000)
    monkeypatch.setattr("planish._answers._FIRST_PAUSE_S", 0.001)
    file = tmp_path / "net.onnx"
    file.write_bytes(CONTENT)
    settings = direct.worker.settings
    elsewhere = s3.url(direct.endpoint, f"{direct.prefix}-elsewhere")
    upload = {**settings.upload.model_dump(), "direct_url": elsewhere}
    mistaken = Settings.model_validate({**settings.model_dump(), "upload": upload})
    with serving(mistaken) as url, planish.Client(url, direct.service.key) as client:
        assert client.models.upload(file, wait=False).sha256 == sha256(CONTENT)


def test_our_client_goes_on_where_the_storage_turned_it_away(
    direct: Direct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage is asked through a way that refuses some requests, then all of them."""
    monkeypatch.setattr("planish._sync.uploads.LARGE_BYTES", 100_000)
    monkeypatch.setattr("planish._answers._FIRST_PAUSE_S", 0.001)
    file = tmp_path / "net.onnx"
    file.write_bytes(CONTENT)
    for refusals, parts in ((2, 3), (1_000, 1)):
        left = [refusals]

        def turn_away(line: str, left: list[int] = left) -> bool:
            left[0] -= line.startswith("PUT")
            return line.startswith("PUT") and left[0] >= 0

        with s3.turning_away(direct.endpoint, turn_away) as way:
            place = s3.url(way, direct.prefix)
            settings = direct.worker.settings
            upload = {**settings.upload.model_dump(), "direct_url": place}
            reached = Settings.model_validate({**settings.model_dump(), "upload": upload})
            with serving(reached) as url, planish.Client(url, direct.service.key) as client:
                model = client.models.upload(file, wait=False)
        with direct.service.store() as session:
            newest = session.query(UploadRow).order_by(UploadRow.created_at.desc()).first()
            assert newest is not None
            assert newest.length == len(CONTENT)
            assert newest.parts == parts
        if parts == 1:
            assert model.sha256 == sha256(CONTENT), "the gateway took it"
