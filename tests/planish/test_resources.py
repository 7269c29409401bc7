"""What is done through the client's resources, with and without ``async``."""

import base64
import hashlib
import io
import json
import re
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import standardwebhooks

import planish
from planish import types
from scripts import unasync
from tests.planish.answers import DATASET, JOB, MODEL
from tests.planish.scripted import Answer, answer, events, hang_up, problem, scripted

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ARTIFACT = {
    "id": "art_1",
    "format": "onnx",
    "size_bytes": len(CONTENT),
    "sha256": DIGEST,
    "href": "/v1/artifacts/art_1/content",
}
READY = {
    **MODEL,
    "status": "ready",
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 2]}],
}
STATE = 'id: 1\nevent: state\ndata: {"status": "succeeded", "stage": "x"}\n\n'


def content(sent: int = len(CONTENT), whole: bytes = CONTENT) -> Answer:
    """Answer as the service does, with the range that is asked for; break off after ``sent``."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        handler.send_response(206 if asked else 200)
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        digest = base64.b64encode(hashlib.sha256(whole).digest()).decode()
        handler.send_header("Repr-Digest", f"sha-256=:{digest}:")
        handler.send_header("Content-Length", str(len(whole) - start))
        handler.end_headers()
        handler.wfile.write(whole[start : start + sent])
        handler.close_connection = True

    return write


def test_the_client_without_async_is_made_of_the_one_with_it() -> None:
    for file, text in unasync.translations().items():
        assert file.read_text() == text, "run: python -m scripts.unasync"


def test_a_job_is_made_awaited_and_downloaded_by_its_handle(tmp_path: Path) -> None:
    queued = {**JOB, "status": "queued"}
    done = {**JOB, "artifacts": [ARTIFACT]}
    answers = [answer(202, queued), events(STATE), answer(200, done), content()]
    with scripted(answers) as service, planish.Client(service.url) as client:
        job = client.jobs.create("mdl_1", [{"method": "quantize"}], max_quality_drop=0.01)
        states = [job.status]
        file = job.wait().download(tmp_path / "small.onnx")
    states.append(job.status)
    assert states == ["queued", "succeeded"]
    assert file.read_bytes() == CONTENT
    assert json.loads(service.requests[0].body)["require"] == {"max_quality_drop": 0.01}


def test_a_file_is_named_by_its_address_in_place_of_its_bytes() -> None:
    model, data = "https://models.example.com/net.onnx", "s3://bucket/data.npz"
    shape = [{"shape": ["N", 2]}]
    answers = [
        answer(202, {**MODEL, "sha256": "", "size_bytes": 0}),
        answer(200, READY),
        answer(202, DATASET),
        problem(422, "not-available", "FETCH_ALLOWED"),
    ]
    with scripted(answers) as service, planish.Client(service.url) as client:
        assert client.models.upload(model, name="mine", inputs=shape).status == "ready"
        client.datasets.from_url(data, sha256="0" * 64, mean=[0.5], wait=False)
        with pytest.raises(planish.Invalid, match="FETCH_ALLOWED"):
            client.models.from_url(model)
    sent = [json.loads(service.requests[number].body) for number in (0, 2)]
    assert sent == [
        {"url": model, "name": "mine", "inputs": shape},
        {"url": data, "sha256": "0" * 64, "mean": [0.5]},
    ]


def test_the_same_works_with_async(tmp_path: Path) -> None:
    queued = {**JOB, "status": "queued"}
    done = {**JOB, "artifacts": [ARTIFACT]}
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x" * 300_000)
    pages = [
        answer(200, {"items": [JOB], "next_cursor": "abc"}),
        answer(200, {"items": [JOB], "next_cursor": None}),
    ]
    answers = [
        answer(201, MODEL),
        answer(200, READY),
        answer(202, queued),
        events(STATE),
        answer(200, done),
        content(1000),
        content(),
        *pages,
    ]

    async def work(url: str) -> None:
        async with planish.AsyncClient(url) as client:
            uploaded = await client.models.upload(model)
            assert uploaded.status == "ready"
            job = await client.jobs.create(uploaded, [{"method": "quantize"}])
            file = await (await job.wait()).download(tmp_path / "small.onnx")
            assert file.read_bytes() == CONTENT
            assert len([each async for each in client.jobs()]) == 2

    with scripted(answers) as service:
        anyio.run(work, service.url)
    assert service.requests[0].body == model.read_bytes()
    assert service.requests[6].headers["range"] == "bytes=1000-"


def test_a_download_goes_on_where_it_broke_also_in_a_later_call(tmp_path: Path) -> None:
    artifact = types.Artifact.model_validate(ARTIFACT)
    target = tmp_path / "small.onnx"
    breaks = [content(50_000), content(20_000), hang_up, hang_up]
    with scripted(breaks) as service, planish.Client(service.url, attempts=2) as client:
        with pytest.raises(planish.Unreachable):
            client.jobs.download(artifact, target)
        assert not target.exists()
        service.answers[:] = [content()]
        client.jobs.download(artifact, target)
    asked = [request.headers.get("range") for request in service.requests]
    assert asked[:2] == [None, "bytes=50000-"]
    assert asked[2:] == ["bytes=70000-"] * 2
    assert target.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [target]


def test_a_download_that_does_not_fit_what_is_there_is_begun_anew(tmp_path: Path) -> None:
    artifact = types.Artifact.model_validate(ARTIFACT)
    target = tmp_path / "small.onnx"
    refusal = problem(416, "range-not-satisfiable")
    with (
        scripted([content(50_000), refusal, content()]) as service,
        planish.Client(service.url) as client,
    ):
        client.jobs.download(artifact, target)
    assert target.read_bytes() == CONTENT
    assert "range" not in service.requests[2].headers


def test_a_graph_is_checked_against_what_the_answer_announces(tmp_path: Path) -> None:
    def false(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Repr-Digest", f"sha-256=:{base64.b64encode(b'0' * 32).decode()}:")
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"bytes")

    with (
        scripted([answer(200, READY), false]) as service,
        planish.Client(service.url) as client,
        pytest.raises(planish.CorruptDownload),
    ):
        client.models.download("mdl_1", tmp_path / "graph.onnx", form="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "refusal",
    [
        problem(429, "too-many-requests", Retry_After="3600"),
        problem(429, "too-many-requests"),
    ],
    ids=["come back in an hour", "no time named"],
)
def test_a_used_up_quota_is_not_answered_by_sending_the_file_again(
    tmp_path: Path, refusal: Answer
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 1000)
    with (
        scripted([refusal]) as service,
        planish.Client(service.url) as client,
        pytest.raises(planish.TooManyRequests) as raised,
    ):
        client.models.upload(file)
    assert raised.value.problem.type == "too-many-requests"
    assert len(service.requests) == 1


def test_a_job_that_has_no_file_says_in_which_state_it_is(tmp_path: Path) -> None:
    running = answer(200, {**JOB, "status": "running"})
    with (
        scripted([running, running]) as service,
        planish.Client(service.url) as client,
        pytest.raises(planish.PlanishError, match="is running and has no"),
    ):
        client.jobs.get("job_1").download(tmp_path / "small.onnx")


# --- Data in memory ---------------------------------------------------------------------------


class Frame:
    """A DataFrame's public face: the names of its columns, and columns by name."""

    def __init__(self, **columns: Any) -> None:
        self.columns = [*columns]
        self._columns = columns

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


def rows(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


X = np.arange(6, dtype=np.float32).reshape(3, 2)
Y = np.array([0, 1, 0])


@pytest.mark.parametrize(
    ("data", "more", "sent"),
    [
        ({"x": X, "targets": Y}, {}, {"x": X, "targets": Y}),
        ({"x": X.tolist()}, {"targets": Y}, {"x": X, "targets": Y}),
        (X, {"model": True}, {"x": X}),
        (Frame(a=X[:, 0], b=X[:, 1], y=Y), {"model": True, "targets": "y"}, {"x": X, "targets": Y}),
        (Frame(x=rows([*X])), {"model": True, "targets": Y}, {"x": X, "targets": Y}),
        (Frame(a=X[:, 0], y=Y), {}, {"a": X[:, 0], "y": Y}),
    ],
    ids=["dict", "lists", "array", "table", "column of arrays", "columns"],
)
def test_data_in_memory_is_uploaded_by_the_names_of_inputs(
    data: Any, more: dict[str, Any], sent: dict[str, Any]
) -> None:
    if more.pop("model", False):
        more["model"] = types.Model.model_validate(READY)
    with scripted([answer(201, DATASET)]) as service, planish.Client(service.url) as client:
        assert client.datasets.upload(data, **more).id == "dst_1"
    with np.load(io.BytesIO(service.requests[0].body)) as arrays:
        assert {*arrays} == {*sent}
        for name, wanted in sent.items():
            assert np.array_equal(arrays[name], wanted)


@pytest.mark.parametrize(
    ("data", "targets", "says"),
    [
        (X, None, "pass model="),
        ({"x": rows([[1, 2], [3]])}, None, "differ in shape"),
        ({"x": rows(["a", None])}, None, "no numbers"),
        (Frame(a=Y), "b", "no column 'b'"),
        ("data.npz", Y, "leave out 'targets'"),
    ],
)
def test_what_is_no_dataset_is_said_before_anything_is_sent(
    data: Any, targets: Any, says: str
) -> None:
    with (
        scripted([]) as service,
        planish.Client(service.url) as client,
        pytest.raises(ValueError, match=says),
    ):
        client.datasets.upload(data, targets=targets)
    assert service.requests == []


# --- Webhooks ---------------------------------------------------------------------------------

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
BODY = json.dumps(
    {"type": "job.succeeded", "timestamp": "2026-01-01T00:00:00Z", "data": JOB}
).encode()


@pytest.fixture
def signed() -> dict[str, str]:
    """Headers of ``BODY`` as another library makes them."""
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", now, BODY.decode())
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": f"v1,AAAA {signature}",
    }


def test_a_message_with_a_good_signature_is_read(signed: dict[str, str]) -> None:
    message = planish.Client("http://127.0.0.1:1").webhooks.verify(BODY, signed, SECRET)
    assert message.type == "job.succeeded"
    assert message.job
    assert message.job.id == "job_1"


@pytest.mark.parametrize(
    ("changes", "body", "secret"),
    [
        ({}, BODY + b" ", SECRET),
        ({}, BODY, "whsec_" + base64.b64encode(b"j" * 24).decode()),
        ({}, BODY, "whsec_?"),
        ({"Webhook-Id": "msg_2"}, BODY, SECRET),
        ({"Webhook-Timestamp": str(int(time.time()) - 3600)}, BODY, SECRET),
        ({"Webhook-Timestamp": "soon"}, BODY, SECRET),
        ({"Webhook-Signature": "v1,\u00e9"}, BODY, SECRET),
    ],
)
def test_a_message_that_is_not_the_services_is_refused(
    signed: dict[str, str], changes: dict[str, str], body: bytes, secret: str
) -> None:
    with pytest.raises(planish.InvalidSignature):
        planish.Client("http://127.0.0.1:1").webhooks.verify(body, {**signed, **changes}, secret)


def test_a_request_without_the_headers_is_refused() -> None:
    with pytest.raises(planish.InvalidSignature, match="webhook-id"):
        planish.Client("http://127.0.0.1:1").webhooks.verify(BODY, {}, SECRET)


# --- Logins -----------------------------------------------------------------------------------


@pytest.fixture
def _no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PLANISH_URL", "PLANISH_KEY", "PLANISH_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.usefixtures("_no_configuration")
def test_a_login_is_for_its_service_alone_and_for_its_owner_alone() -> None:
    from planish import credentials

    assert credentials.url_or_default(None) == credentials.DEFAULT_URL
    file = credentials.keep("https://planish.example/", "plk_a")
    assert file.stat().st_mode & 0o777 == 0o600
    assert credentials.url_or_default(None) == "https://planish.example"
    assert credentials.key_or_default(None, "https://planish.example") == "plk_a"
    assert credentials.key_or_default(None, "https://elsewhere.example") is None
    credentials.keep("https://elsewhere.example", "plk_b")
    assert credentials.key_or_default(None, "https://planish.example/") == "plk_a"
    assert credentials.key_or_default("plk_c", "https://planish.example/") == "plk_c"
    file.write_text("no json")
    assert credentials.url_or_default(None) == credentials.DEFAULT_URL
