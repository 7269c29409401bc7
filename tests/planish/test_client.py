"""What the client promises when the service, or the way to it, misbehaves."""

import hashlib
import json
from pathlib import Path

import pytest

import planish
from planish.types import Artifact, FieldError, Model, Problem
from tests.planish.answers import JOB, MODEL, NO_MODEL
from tests.planish.scripted import Answer, answer, events, hang_up, problem, scripted

REJECTION = {"type": "invalid-model", "title": "Broken", "status": 422, "detail": "no graph"}


def state(number: int, status: str) -> str:
    return f'id: {number}\nevent: state\ndata: {{"status": "{status}", "stage": "x"}}\n\n'


@pytest.mark.parametrize(
    "bad",
    [
        problem(503, "unavailable", Retry_After="0"),
        problem(429, "too-many-requests"),
        problem(409, "request-in-flight"),
        answer(502, b"<html>a proxy</html>"),
        hang_up,
    ],
    ids=["unavailable", "quota", "in-flight", "proxy", "hang-up"],
)
def test_a_request_that_may_pass_is_sent_again_under_the_same_key(bad: Answer) -> None:
    with scripted([bad, answer(202, JOB)]) as service, planish.Client(service.url) as client:
        job = client.submit("mdl_1", [{"method": "quantize"}])
    keys = [request.headers["idempotency-key"] for request in service.requests]
    assert job.id == "job_1"
    assert len(keys) == 2
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, planish.Unauthenticated),
        (403, planish.Forbidden),
        (404, planish.NotFound),
        (409, planish.Conflict),
        (422, planish.Invalid),
        (418, planish.Refused),
    ],
)
def test_a_refusal_is_raised_at_once_as_its_own_type(
    status: int, kind: type[planish.Refused]
) -> None:
    refusal = problem(status, "some-type", "say please")
    with (
        scripted([refusal]) as service,
        planish.Client(service.url) as client,
        pytest.raises(kind, match="say please") as raised,
    ):
        client.job("job_1")
    assert raised.value.problem.type == "some-type"


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ([("#/steps/0", "take a ratio")], "Bad: take a ratio"),
        ([("#/name", "is long")], "Bad: take a ratio\n  #/name: is long"),
        (
            [("#/steps/0", "take a ratio"), ("#/steps/1", "take a ratio")],
            "Bad: take a ratio\n  #/steps/0: take a ratio\n  #/steps/1: take a ratio",
        ),
    ],
)
def test_the_words_of_a_refusal_name_each_field_and_say_nothing_twice(
    errors: list[tuple[str, str]], words: str
) -> None:
    fields = [FieldError(pointer=pointer, detail=said) for pointer, said in errors]
    refused = Problem(type="invalid", title="Bad", status=422, detail="take a ratio", errors=fields)
    assert str(planish.Invalid(refused)) == words


def test_events_that_are_refused_in_all_attempts_say_why() -> None:
    refusal = problem(429, "too-many-requests", "10 event streams are open.")
    with (
        scripted([refusal, refusal]) as service,
        planish.Client(service.url, attempts=2) as client,
        pytest.raises(planish.TooManyRequests, match="10 event streams"),
    ):
        list(client.events("job_1"))
    assert service.answers == []


def test_nobody_there_is_said_after_the_last_attempt() -> None:
    with scripted([]) as service:
        url = service.url
    told = list[str]()
    with (
        planish.Client(url, attempts=2, on_outage=told.append) as client,
        pytest.raises(planish.Unreachable, match=url),
    ):
        client.job("job_1")
    assert told == [], "it is not tried again"


def test_the_key_is_sent_and_a_key_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PLANISH_KEY", "PLANISH_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with scripted([answer(200, JOB), answer(200, JOB)]) as service:
        with planish.Client(service.url) as client:
            client.job("job_1")
        with planish.Client(service.url, "plk_x") as client:
            client.job("job_1")
    assert [request.headers.get("authorization") for request in service.requests] == [
        None,
        "Bearer plk_x",
    ]


def test_an_upload_is_sent_whole_again_and_its_inspection_awaited(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 300_000)
    ready = {**MODEL, "status": "ready"}
    answers = [problem(503, "unavailable"), answer(201, MODEL), answer(200, ready)]
    with scripted(answers) as service, planish.Client(service.url) as client:
        model = client.upload_model(file)
    assert model.status == "ready"
    assert [request.body for request in service.requests[:2]] == [file.read_bytes()] * 2
    assert service.requests[0].path == "/v1/models?filename=model.onnx"


def test_a_rejected_model_is_raised_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x")
    rejected = {**MODEL, "status": "rejected", "problem": REJECTION}
    with (
        scripted([answer(201, rejected)]) as service,
        planish.Client(service.url) as client,
        pytest.raises(planish.Rejected, match="no graph"),
    ):
        client.upload_model(file)


def test_events_after_the_last_one_are_none() -> None:
    """A job that has ended has no more to tell: streams end at once, and so does the client."""
    with scripted([events(), events()]) as service, planish.Client(service.url) as client:
        assert list(client.events("job_1", after=3)) == []
    assert len(service.requests) == 2


def test_a_stream_that_is_cut_goes_on_after_the_last_event() -> None:
    log = 'id: 2\nevent: log\ndata: {"level": "info",\ndata:  "message": "hm"}\n\n: hello\n\n'
    answers = [
        events(state(1, "running"), log, "id: 3\nevent: lo"),
        events(),
        events(state(3, "succeeded")),
    ]
    with scripted(answers) as service, planish.Client(service.url) as client:
        seen = list(client.events("job_1"))
    assert [(event.number, event.kind) for event in seen] == [
        (1, "state"),
        (2, "log"),
        (3, "state"),
    ]
    assert seen[1].data == {"level": "info", "message": "hm"}
    asked = [request.headers["last-event-id"] for request in service.requests]
    assert asked == ["0", "2", "2"]


def test_whoever_waits_sits_out_an_outage_and_is_then_told_once() -> None:
    """A service that is restarted takes longer than the attempts of a request."""
    back = [events(state(2, "succeeded")), answer(200, JOB)]
    away = [hang_up, problem(503, "unavailable"), answer(502, b"a proxy"), hang_up]
    begun = [events(state(1, "running"))]
    with (
        scripted([*begun, *away, *back]) as service,
        planish.Client(service.url, attempts=1, patience_s=60) as client,
    ):
        assert client.wait("job_1").status == "succeeded"
    with (
        scripted([answer(200, JOB), *begun]) as service,
        planish.Client(service.url, attempts=1, patience_s=0.5) as client,
    ):
        client.job("job_1")
        following = client.events("job_1")
        assert next(following).number == 1
        service.answers[:] = [hang_up] * 50
        with pytest.raises(planish.Unreachable, match=service.url) as raised:
            list(following)
    assert len(service.answers) < 49, "it was asked more than once"
    assert raised.value.__suppress_context__, "what a library says of it is noise"


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    answers = [hang_up, hang_up, problem(503, "unavailable"), answer(200, JOB), hang_up]
    stream = [events(state(1, "running")), answer(502, b"a proxy"), hang_up]
    again = [answer(200, JOB), *stream, events(state(2, "succeeded"))]
    told: list[str] = []
    with (
        scripted([*answers, *again]) as service,
        planish.Client(service.url, patience_s=60, on_outage=told.append) as client,
    ):
        client.job("job_1")
        client.job("job_1")
        assert [event.number for event in client.events("job_1")] == [1, 2]
    assert len(told) == 4, "and none where a connection broke once"
    for away, back in (told[:2], told[2:]):
        assert away.startswith(f"{service.url} does not answer (")
        assert back == f"{service.url} answers again."


def test_streams_that_a_stopping_gateway_ends_do_not_end_the_waiting() -> None:
    running, done = answer(200, {**JOB, "status": "running"}), answer(200, JOB)
    answers = [events(), events(), running, events(state(1, "succeeded")), done]
    with scripted(answers) as service, planish.Client(service.url) as client:
        assert client.wait("job_1").status == "succeeded"
    assert service.answers == []


def test_an_address_where_nothing_ever_answered_is_not_waited_for() -> None:
    with (
        scripted([hang_up]) as service,
        planish.Client(service.url, attempts=1, patience_s=60) as client,
        pytest.raises(planish.Unreachable),
    ):
        client.wait("job_1")


def test_waiting_goes_past_an_earlier_end_and_raises_the_last() -> None:
    """A job that was retried has a terminal state in the middle of its events."""
    failed = {**JOB, "status": "failed", "problem": {**REJECTION, "detail": "too slow"}}
    stream = events(state(1, "failed"), state(2, "queued"), state(3, "failed"))
    with (
        scripted([stream, answer(200, failed)]) as service,
        planish.Client(service.url) as client,
        pytest.raises(planish.JobFailed, match="too slow") as raised,
    ):
        client.wait("job_1")
    assert raised.value.job.id == "job_1"


@pytest.mark.parametrize("honest", [True, False])
def test_a_download_is_whole_and_verified_or_not_there(tmp_path: Path, honest: bool) -> None:
    digest = hashlib.sha256(b"bytes").hexdigest()
    artifact = Artifact(id="art_1", format="onnx", size_bytes=5, sha256=digest, href="/v1/x")
    target = tmp_path / "model.onnx"
    body = b"bytes" if honest else b"bytez"
    with scripted([hang_up, answer(200, body)]) as service, planish.Client(service.url) as client:
        if honest:
            assert client.download(artifact, target).read_bytes() == b"bytes"
        else:
            with pytest.raises(planish.CorruptDownload):
                client.download(artifact, target)
    assert list(tmp_path.iterdir()) == ([target] if honest else [])


def test_a_list_is_walked_to_its_end() -> None:
    answers = [
        answer(200, {"items": [JOB], "next_cursor": "abc"}),
        answer(200, {"items": [{**JOB, "id": "job_2"}], "next_cursor": None}),
    ]
    with scripted(answers) as service, planish.Client(service.url) as client:
        ids = [job.id for job in client.jobs(status="succeeded")]
    assert ids == ["job_1", "job_2"]
    assert service.requests[1].path == "/v1/jobs?status=succeeded&cursor=abc"


def test_models_and_datasets_stand_for_their_ids_anywhere_in_a_job() -> None:
    metric = Model.model_validate({**MODEL, "id": "mdl_metric"})
    with scripted([answer(202, JOB)]) as service, planish.Client(service.url) as client:
        client.submit(
            metric,
            [{"method": "distill", "student": {"model": metric}}],
            evaluate={"metric": {"model": metric}},
        )
    assert json.loads(service.requests[0].body) == {
        "model": "mdl_metric",
        "dataset": None,
        "steps": [{"method": "distill", "student": {"model": "mdl_metric"}}],
        "evaluate": {"metric": {"model": "mdl_metric"}},
    }


def test_a_job_holds_what_was_asked_and_nothing_else() -> None:
    with scripted([answer(202, JOB)]) as service, planish.Client(service.url) as client:
        client.submit("mdl_1", [{"method": "quantize"}], dataset="dst_1", seed=7)
    assert json.loads(service.requests[0].body) == {
        "model": "mdl_1",
        "dataset": "dst_1",
        "steps": [{"method": "quantize"}],
        "seed": 7,
    }


def test_one_call_compresses_by_the_service_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, content = tmp_path / "net.onnx", b"a smaller one"
    model.write_bytes(b"x")
    artifact = {
        "id": "art_1",
        "format": "onnx",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "href": "/v1/artifacts/art_1/content",
    }
    answers = [
        answer(422, NO_MODEL),
        answer(201, {**MODEL, "status": "ready"}),
        answer(202, {**JOB, "status": "queued"}),
        events(state(1, "succeeded")),
        answer(200, {**JOB, "artifacts": [artifact]}),
        answer(200, content),
        answer(200, {"seed": 0}),
    ]
    with scripted(answers) as service:
        monkeypatch.setenv("PLANISH_URL", service.url)
        made = planish.compress(model, max_quality_drop=0.01, progress=False)
    asked = json.loads(service.requests[2].body)
    assert asked["steps"] == [{"method": "quantize"}], "it is the same with and without data"
    assert asked["require"] == {"max_quality_drop": 0.01}
    assert made.file == tmp_path / "net.small.onnx"
    assert made.file.read_bytes() == content
    assert made.report == {"seed": 0}
