"""A job from claim to result, in one worker: real stores, real engine processes, no Celery."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import redis
from sqlalchemy import select, update

from app.domain import ids
from app.domain.webhooks import EVENTS
from app.store import events, turns
from app.store.tables import DeliveryRow, JobRow, StepRow
from tests.e2e.service import small_model
from tests.waiting import eventually
from tests.workers.hooks import hook
from tests.workers.lifecycle.jobs import (
    artifacts_of,
    cancel,
    during,
    expected_of,
    let_time_pass,
    row_of,
    states_of,
    submit,
    upload,
)
from workers.runs.inspection import inspect_next
from workers.runs.taking import run_next
from workers.worker import Worker


def test_a_real_model_is_compressed_and_everything_is_told(
    worker: Worker, model: str, tmp_path: Path, redis_url: str
) -> None:
    hook(worker.sessions, "http://localhost:1/")
    job_id = submit(worker, model)
    with redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://")) as broker:
        broker.delete("light")
        run_next(worker)
        assert broker.llen("light") == 1, "the webhook is nudged for"
    row = row_of(worker, job_id)
    assert (row.status, row.attempts, row.progress, row.problem) == ("succeeded", 1, 1, None)
    assert (row.lease_owner, row.lease_expires_at) == (None, None)
    assert row.cpu_seconds > 0
    assert states_of(worker, job_id) == ["running", "succeeded"]
    (artifact,) = artifacts_of(worker, job_id, tmp_path)
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
    good = upload(worker, tmp_path, small_model())
    bad = upload(worker, tmp_path, b"no model at all " * 10)
    assert inspect_next(worker)
    assert inspect_next(worker)
    job_id = submit(worker, good)
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
    jobs = [submit(worker, model) for _ in range(2)]
    for _ in jobs:
        run_next(worker)
    first, second = (artifacts_of(worker, job_id, tmp_path) for job_id in jobs)
    assert first == second


def test_what_is_not_free_is_left_alone(paced: Worker, model: str) -> None:
    job_id = submit(paced, model, "epochs=600")
    with during(paced, job_id):
        assert not run_next(paced)
        assert states_of(paced, job_id) == ["running"], "nobody waited for its end"
        cancel(paced, job_id)
    assert not run_next(paced)
    assert states_of(paced, job_id) == ["running", "cancelled"]


def test_a_cancelled_job_ends_with_its_engine(paced: Worker, model: str) -> None:
    job_id = submit(paced, model, "epochs=600")
    with during(paced, job_id):
        cancel(paced, job_id)
    row = row_of(paced, job_id)
    assert (row.status, row.cancel_requested, row.lease_owner) == ("cancelled", False, None)


def test_a_worker_that_stops_gives_back_what_is_finished_stays_so(
    paced: Worker, model: str, tmp_path: Path
) -> None:
    job_id = submit(paced, model, "epochs=20", steps=2)
    with during(paced, job_id):
        eventually(lambda: row_of(paced, job_id).progress > 0.5, 20)
        paced.stopping.set()
    row = row_of(paced, job_id)
    assert (row.status, row.attempts, row.lease_owner) == ("queued", 0, None)
    run_next(replace(paced, id=ids.new("wrk"), stopping=threading.Event()))
    assert artifacts_of(paced, job_id, tmp_path) == [expected_of(paced, model, [20, 20], tmp_path)]
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
    job_id = submit(paced, model, "epochs=600")
    with during(paced, job_id), paced.sessions.begin() as session:
        theirs = {"lease_token": JobRow.lease_token + 1, "lease_owner": "somebody else"}
        session.execute(update(JobRow).where(JobRow.id == job_id).values(theirs))
    assert row_of(paced, job_id).lease_owner == "somebody else"
    assert states_of(paced, job_id) == ["running"]
    assert artifacts_of(paced, job_id, tmp_path) == []


def test_a_job_of_a_newer_version_waits_for_a_newer_worker_and_holds_up_nobody(
    worker: Worker, model: str
) -> None:
    newer, known = submit(worker, model), submit(worker, model)
    with worker.sessions.begin() as session:
        row = session.get_one(JobRow, newer)
        request = row.request
        row.request = {**request, "steps": [{"method": "of tomorrow"}]}
    run_next(worker)
    row = row_of(worker, newer)
    assert (row.status, row.attempts, row.lease_owner) == ("queued", 0, None)
    with worker.sessions() as session:
        assert turns.next_job(session, worker.offer, {}) == known
    let_time_pass(worker)
    with worker.sessions.begin() as session:
        session.get_one(JobRow, newer).request = request
    run_next(worker)
    assert row_of(worker, newer).status == "succeeded"
