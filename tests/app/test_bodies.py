"""However a body or its type is broken, the answer is a refusal, over real HTTP."""

import json
import logging
import random
from collections.abc import Iterator

import httpx
import pytest

from tests.app.service import DYNAMIC, Service

FORM = (
    b'--BB\r\nContent-Disposition: form-data; name="file"; filename="a.onnx"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nsome bytes\r\n--BB--\r\n"
)
FORM_TYPE = b"multipart/form-data; boundary=BB"
JOB = json.dumps({"model": "mdl_x", "steps": DYNAMIC, "name": "a", "tags": ["b"]}).encode()
WEBHOOK = json.dumps({"url": "http://127.0.0.1/", "events": ["job.failed"]}).encode()
PIECES = (
    b" ", b"\t", b"\r", b"\n", b"\r\n", b":", b";", b'"', b"\\", b"=", b"*", b"%", b"\0", b"\xff",
    b"--", b"--BB", b"filename*=utf-8''%ff", b"[", b"{", b"NaN", b"1e999", b"\\ud800", b"-0",
    b'"\\u0000"', b"null", b"9" * 5000, b"[" * 5000,
)  # fmt: skip
TYPES = (
    b"multipart/form-data",
    b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=" + b"x" * 257,
    b"multipart/form-data; boundary=\xff",
    b"multipart/form-data; boundary*=utf-8''%ff",
    b"multipart/form-data; boundary*0=B; boundary*1=B",
    b'multipart/form-data; boundary="BB',
    b"multipart/form-data; boundary=BB; charset=nowhere",
    b"application/json; charset=nowhere",
    b"application/x-www-form-urlencoded; charset=nowhere",
    b";",
    b"\xff/\xff",
)
ROUTES = (
    ("/v1/models", FORM_TYPE, FORM),
    ("/v1/datasets", FORM_TYPE, FORM),
    ("/login", FORM_TYPE, FORM),
    ("/login", b"application/x-www-form-urlencoded", b"key=a%20b&next=%2F"),
    ("/v1/jobs", b"application/json", JOB),
    ("/v1/jobs/plan", b"application/json", JOB),
    ("/v1/webhooks", b"application/json", WEBHOOK),
)
BROKEN_EACH = 60


def broken(content: bytes, chance: random.Random) -> bytes:
    """Return ``content`` with one to three faults."""
    body = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(body) + 1)
        match chance.choice(("insert", "insert", "delete", "replace", "end")):
            case "insert":
                body[place:place] = chance.choice(PIECES)
            case "delete":
                del body[place : place + chance.randint(1, 6)]
            case "replace":
                body[place : place + 1] = bytes([chance.randrange(256)])
            case "end":
                del body[place:]
    return bytes(body)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The parser warns of every fault that it refuses."""
    parser = logging.getLogger("python_multipart")
    before = parser.level
    parser.setLevel(logging.ERROR)
    yield
    parser.setLevel(before)


def _refused_or_accepted(answer: httpx.Response, sent: object) -> None:
    assert answer.status_code < 500, (sent, answer.text)


@pytest.mark.parametrize(("path", "kind", "content"), ROUTES)
def test_a_broken_body_is_a_refusal(
    service: Service, path: str, kind: bytes, content: bytes
) -> None:
    chance = random.Random(path)
    for _ in range(BROKEN_EACH):
        sent = broken(content, chance)
        answer = service.http.post(path, content=sent, headers=[(b"content-type", kind)])
        _refused_or_accepted(answer, sent)


@pytest.mark.parametrize("path", sorted({path for path, _, _ in ROUTES}))
def test_a_type_that_makes_no_sense_is_a_refusal(service: Service, path: str) -> None:
    for kind in TYPES:
        for content in (FORM, JOB, b"a=b", b""):
            answer = service.http.post(path, content=content, headers=[(b"content-type", kind)])
            _refused_or_accepted(answer, (kind, content))


@pytest.mark.parametrize("name", [b"Content Disposition", b"Content-Disposition ", b" ", b"\xff"])
def test_a_header_of_a_part_with_a_broken_name_is_named(service: Service, name: bytes) -> None:
    sent = FORM.replace(b"Content-Disposition", name)
    answer = service.http.post("/v1/models", content=sent, headers=[(b"content-type", FORM_TYPE)])
    assert answer.status_code in {400, 422}
    assert "form" in answer.json()["detail"] or "file" in answer.json()["detail"]
