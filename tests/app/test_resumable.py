"""``/v1/uploads``: uploads that are cut, and go on; by the client of the protocol's authors too."""

import base64
import hashlib
import io
import random
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
import tusclient.client
from sqlalchemy import func, update
from tusclient.exceptions import TusCommunicationError

import planish
from app.settings import Settings
from app.store import retention
from app.store.tables import UploadPartRow, UploadRow
from tests.app.service import Service, pointers, sha256
from tests.cutting import cutting
from tests.s3 import server, url

CONTENT = random.Random(0).randbytes(700_000)
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


def begin(service: Service, length: int = len(CONTENT), **headers: str) -> httpx.Response:
    asked = {**TUS, "Upload-Length": str(length), **headers}
    return service.http.post("/v1/uploads", headers=asked)


def send(service: Service, place: str, start: int, data: bytes, **more: str) -> httpx.Response:
    headers = {**BYTES, "Upload-Offset": str(start), **more}
    return service.http.patch(place, content=data, headers=headers)


def whole(service: Service, *cuts: int) -> str:
    """Upload ``CONTENT`` in parts; return the upload's id."""
    name = base64.b64encode(b"net.onnx").decode()
    made = begin(service, len(CONTENT), **{"Upload-Metadata": f"filename {name}"})
    place = made.headers["location"]
    for start, end in zip((0, *cuts), (*cuts, len(CONTENT)), strict=True):
        answer = send(service, place, start, CONTENT[start:end])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
    return place.rpartition("/")[2]


def files(settings: Settings) -> list[str]:
    root = Path(unquote(urlsplit(settings.storage.url).path))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# --- What comes of it -------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(), (1,), (100_000, 100_001, 650_000)])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/datasets"])
def test_an_upload_in_any_parts_becomes_what_its_bytes_are(
    service: Service, settings: Settings, cuts: tuple[int, ...], path: str
) -> None:
    upload = whole(service, *cuts)
    made = service.http.post(path, params={"upload_id": upload})
    assert made.status_code == 201, made.text
    assert (made.json()["sha256"], made.json()["size_bytes"]) == (sha256(CONTENT), len(CONTENT))
    assert made.json()["filename"] == "net.onnx"
    assert [name.rpartition("/")[2] for name in files(settings)] == [sha256(CONTENT)]


def test_the_same_on_storage_that_speaks_s3(settings: Settings, tmp_path: Path) -> None:
    from app.store.session import connect, sessions
    from tests.gateway import serving

    engine = connect(settings.database)
    with server() as endpoint:
        changes = {
            "storage": {"url": url(endpoint, tmp_path.name)},
            "auth": {"required": False},
        }
        remote = Settings.model_validate({**settings.model_dump(), **changes})
        with serving(remote) as address, httpx.Client(base_url=address, timeout=30) as http:
            service = Service(address, http, http, sessions(engine))
            upload = whole(service, 100_000, 650_000)
            made = http.post("/v1/models", params={"upload_id": upload}).json()
            assert http.get(f"/v1/models/{made['id']}/content").content == CONTENT
    engine.dispose()


def test_one_upload_may_become_several_things_and_a_retry_makes_no_more(service: Service) -> None:
    upload = whole(service, 100_000)
    key = {"Idempotency-Key": "once"}
    asked = f"/v1/models?upload_id={upload}"
    first, again = (service.http.post(asked, headers=key) for _ in range(2))
    assert first.json() == again.json()
    assert again.headers["idempotent-replay"] == "true"
    other = service.http.post(asked)
    assert (other.status_code, other.json()["sha256"]) == (201, sha256(CONTENT))
    assert other.json()["id"] != first.json()["id"]
    assert service.http.delete(f"/v1/uploads/{upload}", headers=TUS).status_code == 204
    assert service.http.get(f"/v1/models/{first.json()['id']}/content").content == CONTENT


def test_an_upload_can_come_with_its_creation(service: Service) -> None:
    headers = {**BYTES, "Upload-Length": str(len(CONTENT))}
    made = service.http.post("/v1/uploads", content=CONTENT[:1000], headers=headers)
    assert (made.status_code, made.headers["upload-offset"]) == (201, "1000")
    head = service.http.head(made.headers["location"], headers=TUS)
    assert head.headers["upload-offset"] == "1000"
    assert head.headers["upload-length"] == str(len(CONTENT))
    assert head.headers["cache-control"] == "no-store"
    assert head.headers["tus-resumable"] == "1.0.0"
    assert "upload-expires" in head.headers


def test_what_the_server_can_is_said(service: Service) -> None:
    answer = service.http.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(4 * 1024**2)
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "termination",
        "expiration",
        "checksum",
    }


# --- Somebody else's client, and ours, over a line that breaks ---------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_another_makers_client_goes_on_after_every_cut(service: Service, seed: int) -> None:
    key = {"Authorization": service.http.headers["authorization"]}
    place = None
    with cutting(service.url, seed, count=3, most=300_000) as way:
        client = tusclient.client.TusClient(f"{way.url}/v1/uploads", headers=key)
        for _ in range(10):
            with suppress(TusCommunicationError):
                file = io.BytesIO(CONTENT)
                uploader = client.uploader(file_stream=file, url=place, metadata={"name": "n.onnx"})
                place = uploader.url or uploader.create_url()
                uploader.set_url(place)
                uploader.upload()
                break
        assert way.left == []
    assert place is not None
    upload = urlsplit(place).path.rpartition("/")[2]
    made = service.http.post("/v1/models", params={"upload_id": upload})
    assert made.status_code == 201, made.text
    assert made.json()["sha256"] == sha256(CONTENT)


@pytest.mark.parametrize("seed", range(3))
def test_our_client_goes_on_after_every_cut(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("planish._sync.uploads.LARGE_BYTES", 100_000)
    file = tmp_path / "net.onnx"
    file.write_bytes(CONTENT)
    with (
        cutting(service.url, seed, count=3, most=300_000) as way,
        planish.Client(way.url, service.key) as client,
    ):
        made = client.models.upload(file, wait=False)
        assert way.left == []
    assert (made.sha256, made.size_bytes) == (sha256(CONTENT), len(CONTENT))


def test_our_client_sends_no_byte_that_the_quota_does_not_hold(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planish._sync.uploads.LARGE_BYTES", 100_000)
    file = tmp_path / "net.onnx"
    file.write_bytes(CONTENT)
    for _ in range(4):
        begin(service, 4 * 1024**2)
    with (
        planish.Client(service.url, service.key) as client,
        pytest.raises(planish.TooManyRequests),
    ):
        client.models.upload(file)


# --- What is refused --------------------------------------------------------------------------


def test_bytes_for_another_offset_are_refused_with_the_right_one(service: Service) -> None:
    place = begin(service).headers["location"]
    send(service, place, 0, CONTENT[:100])
    for start in (0, 99, 101):
        answer = send(service, place, start, CONTENT[start : start + 10])
        assert answer.status_code == 409
        assert answer.headers["upload-offset"] == "100"
        assert answer.headers["tus-resumable"] == "1.0.0"


def test_more_bytes_than_announced_are_refused_and_not_kept(
    service: Service, settings: Settings
) -> None:
    place = begin(service, 100).headers["location"]
    assert send(service, place, 0, CONTENT[:101]).status_code == 413
    assert files(settings) == []
    assert send(service, place, 0, CONTENT[:100]).status_code == 204


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_damaged_bytes_are_not_kept(service: Service, settings: Settings, algorithm: str) -> None:
    place = begin(service).headers["location"]
    digest = hashlib.new(algorithm, CONTENT).digest()
    checksum = {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}
    damaged = send(service, place, 0, CONTENT[:-1] + b"\0", **checksum)
    assert (damaged.status_code, damaged.json()["type"]) == (460, "checksum-mismatch")
    assert files(settings) == []
    assert send(service, place, 0, CONTENT, **checksum).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Length": "x"}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Length": "٣"}, 400),
        ({"Upload-Length": str(4 * 1024**2 + 1)}, 413),
        ({"Upload-Length": "1", "Upload-Metadata": "filename ?"}, 400),
        ({"Upload-Length": "1", "Tus-Resumable": "0.2.2"}, 412),
        ({"Upload-Length": "1", "Content-Type": "text/plain"}, 415),
    ],
)
def test_a_creation_that_is_wrong_says_why(
    service: Service, headers: dict[str, str], status: int
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in {**TUS, **headers}.items()]
    answer = service.http.post("/v1/uploads", headers=raw)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Upload-Offset": "x"}, 400),
        ({"Upload-Checksum": "crc32 AAAA"}, 400),
        ({"Upload-Checksum": "sha1"}, 400),
        ({"Tus-Resumable": "2.0.0"}, 412),
    ],
)
def test_bytes_that_are_sent_wrongly_are_refused(
    service: Service, headers: dict[str, str], status: int
) -> None:
    place = begin(service).headers["location"]
    assert send(service, place, 0, CONTENT, **headers).status_code == status
    assert send(service, place, 0, CONTENT).status_code == 204


def test_an_upload_that_is_not_complete_makes_nothing(service: Service) -> None:
    place = begin(service).headers["location"]
    send(service, place, 0, CONTENT[:10])
    answer = service.http.post("/v1/models", params={"upload_id": place.rpartition("/")[2]})
    assert answer.status_code == 409
    assert "10 of the 700000 bytes" in answer.json()["detail"]


def test_what_its_first_bytes_show_to_be_no_model_makes_none(service: Service) -> None:
    place = begin(service, 100).headers["location"]
    send(service, place, 0, b"MZ" + b"0" * 98)
    answer = service.http.post("/v1/models", params={"upload_id": place.rpartition("/")[2]})
    assert answer.status_code == 415


@pytest.mark.parametrize("upload", ["upl_x", "upl_" + "0" * 24])
def test_an_upload_that_is_not_there_is_refused_at_its_pointer(
    service: Service, upload: str
) -> None:
    answer = service.http.post("/v1/models", params={"upload_id": upload})
    assert (answer.status_code, pointers(answer)) == (422, ["#/query/upload_id"])
    mine = whole(service)
    other = service.other.post("/v1/models", params={"upload_id": mine})
    assert (other.status_code, pointers(other)) == (422, ["#/query/upload_id"])
    both = service.http.post("/v1/models", params={"upload_id": mine}, content=CONTENT)
    assert (both.status_code, pointers(both)) == (422, ["#/query/upload_id"])


# --- Bounds -----------------------------------------------------------------------------------


def test_the_quota_counts_what_was_announced_before_a_byte_is_sent(service: Service) -> None:
    most = 4 * 1024**2
    places = [begin(service, most).headers["location"] for _ in range(4)]
    full = begin(service, 1)
    assert (full.status_code, full.json()["type"]) == (429, "too-many-requests")
    assert service.http.post("/v1/models", content=CONTENT).status_code == 429
    assert service.http.delete(places[0], headers=TUS).status_code == 204
    assert service.http.get(places[0]).status_code == 404
    assert begin(service, 1).status_code == 201


def test_uploads_that_were_begun_are_bounded(service: Service, settings: Settings) -> None:
    for _ in range(settings.quota.uploads):
        assert begin(service, 1).status_code == 201
    assert begin(service, 1).status_code == 429


def test_an_upload_that_was_abandoned_expires(service: Service) -> None:
    place = begin(service).headers["location"]
    send(service, place, 0, CONTENT[:10])
    with service.store.begin() as session:
        session.execute(update(UploadRow).values(expires_at=func.now()))
    assert service.http.get(place).status_code == 404
    assert send(service, place, 10, CONTENT[10:]).status_code == 404
    with service.store.begin() as session:
        retention.forget_expired(session, 1.0)
        assert session.query(UploadRow).count() == session.query(UploadPartRow).count() == 0


def test_of_two_who_send_the_same_bytes_one_is_told_that_they_are_there(
    service: Service, settings: Settings
) -> None:
    place = begin(service).headers["location"]
    answers: list[int] = []

    def work() -> None:
        with httpx.Client(base_url=service.url, headers=service.http.headers, timeout=30) as http:
            headers = {**BYTES, "Upload-Offset": "0"}
            answers.append(http.patch(place, content=CONTENT, headers=headers).status_code)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [204, 409, 409, 409]
    assert len(files(settings)) == 1
