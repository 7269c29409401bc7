"""However a body, its type or a header is broken, the answer is a refusal, over real HTTP."""

import json
import logging
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from tests.app.people import form_token
from tests.app.service import DYNAMIC, Service

FORM = (
    b'--BB\r\nContent-Disposition: form-data; name="file"; filename="a.onnx"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nsome bytes\r\n--BB--\r\n"
)
FORM_TOKEN = b'--BB\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n%s\r\n'
FORM_TYPE = b"multipart/form-data; boundary=BB"
JOB = json.dumps({"model": "mdl_x", "steps": DYNAMIC, "name": "a", "tags": ["b"]}).encode()
WEBHOOK = json.dumps({"url": "http://127.0.0.1/", "events": ["job.failed"]}).encode()
REFERENCE = json.dumps({"url": "https://a.example/b.onnx", "sha256": "0" * 64}).encode()
DEVICE = json.dumps(
    {"name": "board", "formats": ["onnx"], "runtime": "it", "machine": "m", "threads": 2}
).encode()
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
    ("/v1/models", b"application/json", REFERENCE),
    ("/v1/datasets", b"application/json", REFERENCE),
    ("/v1/devices", b"application/json", DEVICE),
    ("/v1/models/mdl_x/sensitivity", b"application/json", b'{"dataset": "dst_x", "threads": 1}'),
)
BROKEN_EACH = 60
BROKEN_FORMS_EACH = 15
PAGES = (
    ("/models", FORM_TYPE, FORM),
    ("/datasets", FORM_TYPE, FORM),
    ("/models/fetch", b"application/x-www-form-urlencoded", b"url=https%3A%2F%2Fa.example%2Fb"),
    ("/jobs/new", b"application/x-www-form-urlencoded", b"model=mdl_x&steps=%5B%5D&token=a"),
    ("/webhooks", b"application/x-www-form-urlencoded", b"url=http%3A%2F%2Fa&events=job.failed"),
)
HEADERS = (
    ("GET", "/v1/models", b"Accept", b"application/json;q=0.5, text/html"),
    ("GET", "/v1/models", b"If-None-Match", b'W/"abc", "def"'),
    ("GET", "/v1/models", b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    ("GET", "/v1/models", b"Authorization", b"Bearer plk_abc"),
    ("GET", "/v1/models", b"Cookie", b"session=abc; other=def"),
    ("GET", "/v1/models", b"Host", b"127.0.0.1:8080"),
    ("GET", "/v1/models", b"Origin", b"http://127.0.0.1:8080"),
    ("GET", "/v1/jobs/job_x/events", b"Last-Event-ID", b"12"),
    ("POST", "/v1/jobs", b"Idempotency-Key", b"0af1-22"),
    ("POST", "/v1/uploads", b"Upload-Length", b"1000"),
    ("POST", "/v1/uploads", b"Upload-Metadata", b"filename YS5vbm54,kind bW9kZWw="),
    ("POST", "/v1/models", b"Content-Length", b"12"),
    ("POST", "/v1/models", b"Content-Type", FORM_TYPE),
    ("PATCH", "/v1/uploads/upl_x", b"Upload-Offset", b"0"),
    ("PATCH", "/v1/uploads/upl_x", b"Upload-Checksum", b"sha256 YWJj"),
)
BROKEN_HEADERS_EACH = 20


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


def test_a_broken_form_of_a_page_is_a_refusal(person: httpx.Client) -> None:
    token = form_token(person).encode()
    for path, kind, content in PAGES:
        chance = random.Random(path)
        field = FORM_TOKEN % token if kind == FORM_TYPE else b"form_token=" + token + b"&"
        for _ in range(BROKEN_FORMS_EACH):
            sent = field + broken(content, chance)
            answer = person.post(path, content=sent, headers=[(b"content-type", kind)])
            _refused_or_accepted(answer, (path, sent))


def _first_line(service: Service, method: str, path: str, header: bytes, patience: float) -> bytes:
    """Send a header as it is, which a client's library would refuse to do.

    Returns:
        The first line of the answer; nothing where the gateway still waits for more of the body.
    """
    address = urlsplit(service.url)
    body = b"" if method == "GET" else b"twelve bytes"
    usual = {
        b"Host": address.netloc.encode(),
        b"Authorization": f"Bearer {service.key}".encode(),
        b"Content-Length": str(len(body)).encode(),
        b"Connection": b"close",
    }
    lines = [b": ".join(each) for each in usual.items() if not header.startswith(each[0])]
    head = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *lines, header])
    with socket.create_connection((str(address.hostname), address.port), timeout=30) as sender:
        sender.sendall(head + b"\r\n\r\n" + body)
        sender.settimeout(patience)
        with suppress(TimeoutError):
            return sender.makefile("rb").readline()
        return b""


def test_a_broken_header_is_a_refusal(service: Service) -> None:
    for method, path, name, value in HEADERS:
        header = name + b": " + value
        assert _first_line(service, method, path, header, 30).startswith(b"HTTP/1.1 ")
        chance = random.Random(f"{path} {name!r}")
        for _ in range(BROKEN_HEADERS_EACH):
            line = broken(header, chance)
            first = _first_line(service, method, path, line, 0.3)
            assert not first.startswith(b"HTTP/1.1 5"), (line, first)


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


@pytest.mark.parametrize(
    "request_line",
    [b"GET /v1/models?name=" + b"a" * 70_000 + b" HTTP/1.1", b"GET /v1/models HTP/1.1"],
)
def test_what_is_no_http_is_refused_with_a_problem(service: Service, request_line: bytes) -> None:
    parts = urlsplit(service.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as sender:
        sender.sendall(request_line + b"\r\nHost: " + parts.netloc.encode() + b"\r\n\r\n")
        answer = sender.makefile("rb").read()  # until the gateway closes the connection
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head.lower()
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("malformed-request", 400)
