"""Downloads: whole, in part, unchanged, safely named, and with a digest to check."""

import base64
import hashlib
from urllib.parse import unquote

import pytest

from app.store.tables import ModelRow
from tests.app.service import Service

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)


@pytest.fixture
def path(service: Service) -> str:
    return content_of(service, service.job(service.model(CONTENT))["id"])


def told(service: Service, job: str) -> str:
    """Return the name that answers give a job's only file."""
    [shown] = service.http.get(f"/v1/jobs/{job}").json()["artifacts"]
    [listed] = service.http.get(f"/v1/jobs/{job}/artifacts").json()["items"]
    assert shown == listed
    return str(shown["filename"])


def content_of(service: Service, job: str) -> str:
    return f"/v1/artifacts/{service.finish(job)}/content"


def called(service: Service, path: str) -> str:
    """Return the name that a browser gives the file."""
    said = service.http.head(path).headers["content-disposition"]
    return unquote(said.partition("filename*=UTF-8''")[2])


def test_a_download_says_what_it_is(service: Service, path: str) -> None:
    answer = service.http.get(path)
    digest = hashlib.sha256(CONTENT)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    encoded = base64.b64encode(digest.digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{encoded}:"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(SIZE)
    head = service.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "repr-digest", "content-length", "content-disposition"):
        assert head.headers[name] == answer.headers[name]


def test_a_download_is_called_after_model_job_and_format(service: Service) -> None:
    model = service.model(CONTENT)
    job = service.job(model)["id"]
    path, tail = content_of(service, job), job[-6:]
    assert called(service, path) == f"model-quantize-{tail}.onnx"
    for name, spelled in (
        ('a/b "modèl".v2.onnx', "a-b-modèl-.v2"),
        ("..\\..\r\nX: 1.ZIP", "X-1"),
        (".onnx", "model"),
        ("n" * 300 + ".tar.gz", "n" * 60),
        ("模" * 50, "模" * 30),
    ):
        with service.store.begin() as session:
            session.get_one(ModelRow, model).name = name
        assert called(service, path) == told(service, job) == f"{spelled}-quantize-{tail}.onnx"
        assert called(service, f"/v1/models/{model}/content?form=onnx").endswith(".onnx")
    named = service.job(model, name="Half of the work")["id"]
    with service.store.begin() as session:
        session.get_one(ModelRow, model).name = "digits.onnx"
    assert called(service, content_of(service, named)) == (
        f"digits-Half-of-the-work-{named[-6:]}.onnx"
    )
    assert called(service, f"/v1/models/{model}/content?form=onnx") == "digits.onnx"
    plain = service.http.get(path).headers["content-disposition"]
    assert plain.isascii()
    assert plain.startswith(f'attachment; filename="digits-quantize-{tail}.onnx"; ')


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=100-", 100, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        ("bytes=-999999", 0, SIZE),
        (f"bytes={SIZE - 1}-{SIZE + 10**9}", SIZE - 1, SIZE),
        (f"Bytes=1-{10**40}", 1, SIZE),
        (f"bytes=-{10**40}", 0, SIZE),
    ],
)
def test_one_range_is_answered_with_just_it(
    service: Service, path: str, asked: str, start: int, end: int
) -> None:
    answer = service.http.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(3000)),
        "items=0-1",
        "bytes=5-2",
        "bytes=-",
        "bytes=a-b",
        "bytes=" + "9" * 50 + "-",
    ],
)
def test_what_is_no_single_range_is_ignored(service: Service, path: str, asked: str) -> None:
    answer = service.http.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_past_the_end_is_refused(service: Service, path: str, asked: str) -> None:
    answer = service.http.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.json()["type"]) == (416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


def test_a_range_of_other_bytes_is_answered_with_the_whole(service: Service, path: str) -> None:
    etag = service.http.get(path).headers["etag"]
    part = {"Range": "bytes=0-9"}
    same = service.http.get(path, headers={**part, "If-Range": etag})
    assert (same.status_code, same.content) == (206, CONTENT[:10])
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        answer = service.http.get(path, headers={**part, "If-Range": other})
        assert (answer.status_code, answer.content) == (200, CONTENT)


def test_what_the_client_has_is_not_sent_again(service: Service, path: str) -> None:
    etag = service.http.get(path).headers["etag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        answer = service.http.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    assert service.http.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_bytes_that_are_lost_are_a_problem_and_no_half_file(
    service: Service, path: str, storage_url: str
) -> None:
    from app.blobs import Blobs

    Blobs.open(storage_url).delete(hashlib.sha256(CONTENT).hexdigest())
    answer = service.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
