"""A job from claim to result, in one worker: real stores, real engine processes, no Celery."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
import redis
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError

from app.blobs import Blob, Blobs
from app.domain import ids
from app.domain.directory import Result
from app.domain.jobs import FINISHED
from app.domain.request_parts import Limits
from app.domain.webhooks import EVENTS
from app.settings import Settings
from app.store import blob_rows, counters, events, leases, runs, turns
from app.store.session import connect, sessions
from app.store.tables import ArtifactRow, DeliveryRow, JobRow, LayerTimeRow, ModelRow, StepRow
from tests.e2e import engine
from tests.e2e.service import small_model
from tests.waiting import eventually
from tests.workers import liars
from tests.workers.hooks import hook
from tests.workers.light import CAPABILITIES
from workers.runs import tools
from workers.runs.attempts import Engine
from workers.runs.hold import Hold
from workers.runs.inspection import inspect_next
from workers.runs.order import order
from workers.runs.taking import run_next
from workers.worker import Sandboxes, Slots, Worker

PACED = "tests.e2e.engine:main"
ATTEMPTS = 3


@pytest.fixture
def settings(database: str, redis_url: str, storage_url: str) -> Settings:
    return Settings.model_validate(
        {
            "database": {"url": database},
            "broker": {"url": redis_url},
            "storage": {"url": storage_url},
            "lease": {"seconds": 5, "renew_seconds": 0.2, "attempts": ATTEMPTS},
            "engine": {"threads": 1, "memory_bytes": 1024**3, "directory_bytes": 64 * 1024**2},
        }
    )


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[Sandboxes]:
    """Fork servers, which are warm after the first run."""
    made = Sandboxes(Settings.model_validate({"engine": {"threads": 1}}), "cpu")
    yield made
    made.close()


@pytest.fixture
def worker(settings: Settings, sandboxes: Sandboxes, tmp_path: Path) -> Iterator[Worker]:
    """A worker with the real engine."""
    database = connect(settings.database)
    directory = tmp_path / "worker"
    directory.mkdir()
    yield Worker(
        id=ids.new("wrk"),
        queue="jobs",
        device="cpu",
        settings=settings,
        sessions=sessions(database),
        blobs=Blobs.open(settings.storage.url),
        sandboxes=sandboxes,
        slots=Slots(1),
        directory=directory,
    )
    assert list(directory.iterdir()) == [], "no place outlives its run"
    database.dispose()


@pytest.fixture
def paced(worker: Worker) -> Worker:
    """The same worker with the engine whose pace and fate a test chooses."""
    return replace(worker, entry=PACED)


@pytest.fixture
def model(worker: Worker, tmp_path: Path) -> str:
    """A model that is ready: uploaded, and inspected by the real engine."""
    model_id = _upload(worker, tmp_path, small_model())
    assert inspect_next(worker)
    with worker.sessions() as session:
        assert session.get_one(ModelRow, model_id).status == "ready"
    return model_id


def _upload(worker: Worker, tmp_path: Path, content: bytes) -> str:
    file = tmp_path / "upload"
    file.write_bytes(content)
    blob = worker.blobs.put_file(file)
    with worker.sessions.begin() as session:
        blob_rows.touch(session, blob.sha256, blob.size_bytes)
        session.flush()
        row = ModelRow(id=ids.new("mdl"), tenant="t", sha256=blob.sha256, size_bytes=1)
        session.add(row)
    return row.id


def _submit(worker: Worker, model: str, *words: str, steps: int = 1) -> str:
    step = {"method": "quantize", "mode": "float16", "force": True, "ignore": list(words)}
    with worker.sessions.begin() as session:
        row = JobRow(
            id=ids.new("job"),
            tenant="t",
            tags=[],
            model_id=model,
            request={"model": model, "steps": [step] * steps},
        )
        session.add(row)
        return row.id


def _row(worker: Worker, job_id: str) -> JobRow:
    with worker.sessions() as session:
        return session.get_one(JobRow, job_id)


def _layer_times(worker: Worker) -> Sequence[float]:
    with worker.sessions() as session:
        return session.scalars(select(LayerTimeRow.milliseconds)).all()


def _states(worker: Worker, job_id: str) -> list[str]:
    with worker.sessions() as session:
        told = events.after(session, job_id, 0)
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    return [event.data["status"] for event in told if event.kind == "state"]


def _artifacts(worker: Worker, job_id: str, tmp_path: Path) -> list[bytes]:
    with worker.sessions() as session:
        stored = session.scalars(
            select(ArtifactRow.sha256).where(ArtifactRow.job_id == job_id)
        ).all()
    for sha256 in stored:
        worker.blobs.fetch(sha256, tmp_path / sha256)
    return [(tmp_path / sha256).read_bytes() for sha256 in stored]


def _expected(worker: Worker, model: str, epochs: list[int], tmp_path: Path) -> bytes:
    with worker.sessions() as session:
        graph = session.get_one(ModelRow, model).graph_sha256
    assert graph is not None
    worker.blobs.fetch(graph, tmp_path / "graph")
    return engine.expected((tmp_path / "graph").read_bytes(), epochs)


@contextmanager
def _during(worker: Worker, job_id: str) -> Iterator[None]:
    """Run a job; the block happens when it has got somewhere, and has to end it within seconds."""
    running = threading.Thread(target=run_next, args=(worker,))
    running.start()
    try:
        eventually(lambda: _row(worker, job_id).progress > 0, 20)
        yield
    finally:
        running.join(10)
        assert not running.is_alive()
    engines = psutil.Process().children(recursive=True)
    assert not [each for each in engines if _works_in(each, worker.directory)]


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(directory)
    except (psutil.Error, OSError):
        return False


def test_a_real_model_is_compressed_and_everything_is_told(
    worker: Worker, model: str, tmp_path: Path, redis_url: str
) -> None:
    hook(worker.sessions, "http://localhost:1/")
    job_id = _submit(worker, model)
    with redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://")) as broker:
        broker.delete("light")
        run_next(worker)
        assert broker.llen("light") == 1, "the webhook is nudged for"
    row = _row(worker, job_id)
    assert (row.status, row.attempts, row.progress, row.problem) == ("succeeded", 1, 1, None)
    assert (row.lease_owner, row.lease_expires_at) == (None, None)
    assert row.cpu_seconds > 0
    assert _states(worker, job_id) == ["running", "succeeded"]
    (artifact,) = _artifacts(worker, job_id, tmp_path)
    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"x": np.array([[1, 1]], np.float32)})
    np.testing.assert_allclose(outputs, [[4, 2.5]], rtol=1e-3)
    with worker.sessions() as store:
        step = store.get_one(StepRow, (job_id, 0))
        assert step.report is not None
        assert store.scalars(select(DeliveryRow.event)).all() == ["job.succeeded"]


def test_a_webhook_is_told_of_models_and_of_the_start_of_jobs_where_it_asks_for_that(
    worker: Worker, tmp_path: Path
) -> None:
    hook(worker.sessions, "http://localhost:1/", events=list(EVENTS))
    hook(worker.sessions, "http://localhost:1/", tenant="other", events=list(EVENTS))
    good = _upload(worker, tmp_path, small_model())
    bad = _upload(worker, tmp_path, b"no model at all " * 10)
    assert inspect_next(worker)
    assert inspect_next(worker)
    job_id = _submit(worker, good)
    run_next(worker)
    with worker.sessions() as store:
        rows = store.scalars(select(DeliveryRow).order_by(DeliveryRow.created_at)).all()
    told = [(row.event, json.loads(row.payload)["data"]["id"], row.job_id) for row in rows]
    assert told == [
        ("model.ready", good, None),
        ("model.rejected", bad, None),
        ("job.started", job_id, job_id),
        ("job.succeeded", job_id, job_id),
    ]
    assert json.loads(rows[1].payload)["data"]["problem"]["type"] == "invalid-model"


def test_the_same_seed_makes_the_same_bytes(worker: Worker, model: str, tmp_path: Path) -> None:
    jobs = [_submit(worker, model) for _ in range(2)]
    for _ in jobs:
        run_next(worker)
    first, second = (_artifacts(worker, job_id, tmp_path) for job_id in jobs)
    assert first == second


def test_what_is_not_free_is_left_alone(paced: Worker, model: str) -> None:
    job_id = _submit(paced, model, "epochs=600")
    with _during(paced, job_id):
        assert not run_next(paced)
        assert _states(paced, job_id) == ["running"], "nobody waited for its end"
        _cancel(paced, job_id)
    assert not run_next(paced)
    assert _states(paced, job_id) == ["running", "cancelled"]


def test_a_cancelled_job_ends_with_its_engine(paced: Worker, model: str) -> None:
    job_id = _submit(paced, model, "epochs=600")
    with _during(paced, job_id):
        _cancel(paced, job_id)
    row = _row(paced, job_id)
    assert (row.status, row.cancel_requested, row.lease_owner) == ("cancelled", False, None)


def test_a_worker_that_stops_gives_back_what_is_finished_stays_so(
    paced: Worker, model: str, tmp_path: Path
) -> None:
    job_id = _submit(paced, model, "epochs=20", steps=2)
    with _during(paced, job_id):
        eventually(lambda: _row(paced, job_id).progress > 0.5, 20)
        paced.stopping.set()
    row = _row(paced, job_id)
    assert (row.status, row.attempts, row.lease_owner) == ("queued", 0, None)
    run_next(replace(paced, id=ids.new("wrk"), stopping=threading.Event()))
    assert _artifacts(paced, job_id, tmp_path) == [_expected(paced, model, [20, 20], tmp_path)]
    with paced.sessions() as session:
        told = [event.data for event in events.after(session, job_id, 0)]
    stages = [data["stage"] for data in told if data.get("stage", "").startswith("step")]
    after = [data.get("status") for data in told].index("queued")
    again = [data["stage"] for data in told[after:] if "stage" in data]
    assert stages[0].startswith("step 0")
    assert not [stage for stage in again if stage.startswith("step 0")]


def test_a_job_that_somebody_else_holds_by_now_is_not_written_to(
    paced: Worker, model: str, tmp_path: Path
) -> None:
    job_id = _submit(paced, model, "epochs=600")
    with _during(paced, job_id), paced.sessions.begin() as session:
        theirs = {"lease_token": JobRow.lease_token + 1, "lease_owner": "somebody else"}
        session.execute(update(JobRow).where(JobRow.id == job_id).values(theirs))
    assert _row(paced, job_id).lease_owner == "somebody else"
    assert _states(paced, job_id) == ["running"]
    assert _artifacts(paced, job_id, tmp_path) == []


def test_an_engine_that_dies_is_started_again_in_its_directory(
    paced: Worker, model: str, tmp_path: Path
) -> None:
    job_id = _submit(paced, model, "die=2", "epochs=2")
    run_next(paced)
    assert _row(paced, job_id).attempts == ATTEMPTS
    assert _states(paced, job_id) == ["running", "succeeded"]
    assert _artifacts(paced, job_id, tmp_path) == [_expected(paced, model, [2], tmp_path)]


def test_an_engine_that_always_dies_is_given_up_with_the_reason(paced: Worker, model: str) -> None:
    job_id = _submit(paced, model, "die=1000")
    run_next(paced)
    row = _row(paced, job_id)
    assert row.problem is not None
    assert (row.status, row.problem["type"], row.attempts) == (
        "failed",
        "engine-crashed",
        ATTEMPTS,
    )
    assert "Segmentation fault" in row.problem["detail"]
    assert "at 'step 0'" in row.problem["detail"], "the stage that ran"


@pytest.mark.parametrize(
    "lie",
    [
        liars.answers_nothing,
        liars.answers_nonsense,
        liars.answers_without_a_report,
        liars.answers_with_a_link,
        liars.answers_with_a_pipe,
        liars.names_an_artifact_that_is_not_there,
        liars.names_a_link_as_artifact,
        liars.names_a_file_elsewhere_as_artifact,
    ],
)
def test_an_engine_is_not_believed(
    worker: Worker, model: str, tmp_path: Path, lie: Callable[[Path], int]
) -> None:
    job_id = _submit(worker, model, "epochs=1")
    run_next(replace(worker, entry=f"{liars.__name__}:{lie.__name__}"))
    row = _row(worker, job_id)
    assert row.problem is not None
    assert (row.status, row.problem["type"]) == ("failed", "engine-crashed")
    assert [each for each in _states(worker, job_id) if each in FINISHED] == ["failed"]
    assert _artifacts(worker, job_id, tmp_path) == []


def test_steps_are_counted_as_they_were_asked_for_whatever_the_engine_says(
    worker: Worker, model: str
) -> None:
    """The counters are the whole deployment's, and a sum that overflows could not be read."""
    job_id = _submit(worker, model, "epochs=1")
    run_next(replace(worker, entry=f"{liars.__name__}:{liars.boasts_of_steps.__name__}"))
    assert _row(worker, job_id).status == "succeeded"
    with worker.sessions() as session:
        assert counters.totals(session, counters.STEPS) == {"quantize": 1}
        (seconds,) = counters.totals(session, counters.STEP_SECONDS).values()
    assert seconds == 60 * Limits().running_minutes


def test_what_is_too_large_for_the_database_is_not_tried_for_ever(worker: Worker) -> None:
    def count() -> None:
        with worker.sessions.begin() as session:
            counters.add(session, "name", {liars.TOO_LONG: 1})

    with (
        Hold(lambda: False, every=60, stopping=threading.Event(), seconds=60) as hold,
        pytest.raises(OperationalError, match="index row"),
    ):
        hold.do(count)


def test_a_fault_of_ours_is_tried_again_later_and_then_told(worker: Worker, model: str) -> None:
    """Here there is no such engine."""
    job_id = _submit(worker, model)
    for attempt in range(1, ATTEMPTS + 1):
        run_next(replace(worker, entry=f"{liars.__name__}:nobody"))
        row = _row(worker, job_id)
        assert (row.status, row.attempts) == ("queued" if attempt < ATTEMPTS else "failed", attempt)
        run_next(worker)
        assert _row(worker, job_id).attempts == attempt, "not at once"
        _let_time_pass(worker)
    assert row.problem is not None
    assert row.problem["type"] == "internal-error"
    assert "nobody" not in row.problem["detail"]


def test_an_inspection_that_meets_a_fault_of_ours_is_tried_as_often_as_a_job(
    worker: Worker, tmp_path: Path
) -> None:
    model_id = _upload(worker, tmp_path, small_model())
    for attempt in range(1, ATTEMPTS + 1):
        assert inspect_next(replace(worker, entry=f"{liars.__name__}:nobody"))
        with worker.sessions.begin() as session:
            row = session.get_one(ModelRow, model_id)
            expected = "inspecting" if attempt < ATTEMPTS else "rejected"
            assert (row.status, row.attempts) == (expected, attempt)
            assert row.not_before > leases.now(session) or row.status == "rejected", "not at once"
            row.not_before = leases.now(session)
    assert row.problem is not None
    assert row.problem["type"] == "internal-error"
    assert not inspect_next(worker), "nothing is tried again"


def test_a_deadline_that_passes_while_a_result_is_published_changes_nothing(
    paced: Worker, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has answered in time; that the store is slow is no fault of the job."""
    job_id = _submit(paced, model, "epochs=1")
    paced.ability.capabilities = CAPABILITIES
    answer, put_file, publish = Engine.answer, Blobs.put_file, runs.publish
    left, keep_times = vars(Hold)["seconds_left"].fget, runs.keep_layer_times

    def answered(self: Engine) -> Result:
        result = answer(self)
        day_late = property(lambda hold: left(hold) - 86_400)
        monkeypatch.setattr(Hold, "seconds_left", day_late)
        return result.model_copy(update={"layer_times": {"0" * 32: 1.5}})

    def kept(*words: Any) -> None:
        time.sleep(0.2)
        keep_times(*words)

    def slowly(self: Blobs, path: Path) -> Blob:
        time.sleep(0.2)
        return put_file(self, path)

    def published(*words: Any) -> None:
        time.sleep(0.2)
        publish(*words)

    monkeypatch.setattr(Engine, "answer", answered)
    monkeypatch.setattr(Blobs, "put_file", slowly)
    monkeypatch.setattr(runs, "keep_layer_times", kept)
    monkeypatch.setattr(runs, "publish", published)
    run_next(paced)
    row = _row(paced, job_id)
    assert (row.status, row.attempts, row.problem) == ("succeeded", 1, None)
    assert _layer_times(paced) == [1.5]


def test_a_result_counts_though_the_times_of_its_layers_cannot_be_kept(
    paced: Worker, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _submit(paced, model, "epochs=1")
    paced.ability.capabilities = CAPABILITIES
    answer, refused = Engine.answer, {"layer_times": {"no text column takes this: \0": 1.5}}
    monkeypatch.setattr(Engine, "answer", lambda self: answer(self).model_copy(update=refused))
    run_next(paced)
    row = _row(paced, job_id)
    assert (row.status, row.attempts, row.problem) == ("succeeded", 1, None)
    assert _layer_times(paced) == []


def test_a_store_that_is_away_when_a_tool_has_run_is_waited_for(
    paced: Worker, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = _submit(paced, model, "epochs=1")
    answer, answers = Engine.answer, iter([Result(tools=["litert"])])
    faults = iter([None, OperationalError("", {}, Exception("away"))])

    def away_once(*words: Any) -> Any:
        if fault := next(faults, None):
            raise fault
        return order(*words)

    monkeypatch.setattr(Engine, "answer", lambda self: next(answers, None) or answer(self))
    monkeypatch.setattr(tools, "sandbox_of", lambda *_: nullcontext())
    monkeypatch.setattr(tools, "run", lambda *_: None)
    monkeypatch.setattr("workers.runs.job.order", away_once)
    run_next(paced)
    row = _row(paced, job_id)
    assert (row.status, row.attempts, row.problem) == ("succeeded", 1, None)
    assert next(faults, None) is None, "the order was written twice"


def test_a_job_of_a_newer_version_waits_for_a_newer_worker_and_holds_up_nobody(
    worker: Worker, model: str
) -> None:
    newer, known = _submit(worker, model), _submit(worker, model)
    with worker.sessions.begin() as session:
        row = session.get_one(JobRow, newer)
        request = row.request
        row.request = {**request, "steps": [{"method": "of tomorrow"}]}
    run_next(worker)
    row = _row(worker, newer)
    assert (row.status, row.attempts, row.lease_owner) == ("queued", 0, None)
    with worker.sessions() as session:
        assert turns.next_job(session, worker.offer, {}) == known
    _let_time_pass(worker)
    with worker.sessions.begin() as session:
        session.get_one(JobRow, newer).request = request
    run_next(worker)
    assert _row(worker, newer).status == "succeeded"


def _let_time_pass(worker: Worker) -> None:
    with worker.sessions.begin() as session:
        session.execute(text("UPDATE jobs SET not_before = now() WHERE status = 'queued'"))


def _cancel(worker: Worker, job_id: str) -> None:
    with worker.sessions.begin() as session:
        session.get_one(JobRow, job_id).cancel_requested = True
