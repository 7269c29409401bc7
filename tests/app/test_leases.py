"""Who works on a job, until when and under which token: promises to any number of workers."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.blobs import Blob
from app.domain import ids
from app.domain.directory import FinishedStep, Produced
from app.domain.events import Log
from app.domain.jobs import Usage
from app.domain.problems import InternalError
from app.store import (
    blob_rows,
    claims,
    events,
    inspections,
    leases,
    reaping,
    runs,
    transitions,
    turns,
)
from app.store.leases import LeaseLost
from app.store.session import Sessions
from app.store.tables import ArtifactRow, DeliveryRow, JobRow, ModelRow, StepRow, WebhookRow
from tests.app.claiming import claim_job
from tests.app.service import DYNAMIC, MODEL

SECONDS = 60.0
LOSSES = 5
ANY = claims.WorkerOffer("cpu")
BLOB = Blob("0" * 64, 1, "key")
USAGE = Usage(cpu_seconds=2, gpu_seconds=0, peak_memory_bytes=7)


@pytest.fixture
def model(store: Sessions) -> str:
    return _model(store, status="ready")


def _model(store: Sessions, status: str) -> str:
    with store.begin() as session:
        blob_rows.touch(session, BLOB.sha256, BLOB.size_bytes)
        session.flush()
        row = ModelRow(
            id=ids.new("mdl"), tenant="t", status=status, sha256=BLOB.sha256, size_bytes=1,
            onnx_sha256=BLOB.sha256, graph_sha256=BLOB.sha256, description=MODEL,
        )  # fmt: skip
        session.add(row)
        return row.id


def _job(store: Sessions, model: str) -> str:
    with store.begin() as session:
        row = JobRow(
            id=ids.new("job"), tenant="t", tags=[], model_id=model,
            request={"model": model, "steps": DYNAMIC},
        )  # fmt: skip
        session.add(row)
        return row.id


def _claim(store: Sessions, job_id: str, owner: str = "a") -> claims.Claim:
    claimed = _try_claim(store, job_id, owner)
    assert claimed is not None
    return claimed


def _try_claim(store: Sessions, job_id: str, owner: str = "b") -> claims.Claim | None:
    with store.begin() as session:
        return claim_job(session, job_id, owner, SECONDS)


def _row(store: Sessions, job_id: str) -> JobRow:
    with store() as session:
        return session.get_one(JobRow, job_id)


def _expire(store: Sessions, job_id: str) -> None:
    """Let the lease run out, as the database sees it."""
    past = func.clock_timestamp() - text("interval '1 ms'")
    with store.begin() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(lease_expires_at=past))


def _reap(store: Sessions) -> list[str]:
    with store.begin() as session:
        return reaping.reap_jobs(session, LOSSES)


def _lose(store: Sessions, job_id: str) -> tuple[int, bool, float]:
    """Let a worker claim a job and go silent.

    Returns the number of its attempt, whether the job waits again, and for how long.
    """
    attempt = _claim(store, job_id).attempt
    _expire(store, job_id)
    waits = _reap(store) == [job_id]
    with store.begin() as session:
        job = session.get_one(JobRow, job_id)
        pause = (job.not_before - leases.now(session)).total_seconds()
        job.not_before = leases.seconds_from_now(0)
    return attempt, waits, pause


def _states(store: Sessions, job_id: str) -> list[str]:
    with store() as session:
        told = events.after(session, job_id, 0)
        return [event.data["status"] for event in told if event.kind == "state"]


def test_those_that_have_waited_longest_come_first(store: Sessions, model: str) -> None:
    jobs = [_job(store, model) for _ in range(5)]
    _claim(store, jobs[1])
    for expected in (jobs[0], jobs[2], jobs[3]):
        with store.begin() as session:
            assert turns.next_job(session, ANY, {}) == expected
        _claim(store, expected)


def test_a_job_waits_for_its_time_and_for_its_upload(store: Sessions, model: str) -> None:
    later, unready = _job(store, model), _job(store, _model(store, status="inspecting"))
    with store.begin() as session:
        session.get_one(JobRow, later).not_before = leases.seconds_from_now(SECONDS)
    with store() as session:
        assert turns.next_job(session, ANY, {}) is None
    assert _try_claim(store, later) is None
    assert _try_claim(store, unready) is None


def test_whoever_comes_second_gets_nothing_and_does_not_wait(store: Sessions, model: str) -> None:
    job_id = _job(store, model)
    with store.begin() as first:
        assert claim_job(first, job_id, "a", SECONDS)
        assert _try_claim(store, job_id, "b") is None, "while the first has not committed"
    assert _try_claim(store, job_id, "b") is None, "and after"
    assert _row(store, job_id).lease_owner == "a"


def test_many_who_claim_at_once_share_the_jobs(store: Sessions, model: str) -> None:
    jobs = [_job(store, model) for _ in range(30)]
    together = threading.Barrier(8)

    def take_all(number: int) -> list[str]:
        together.wait(10)
        mixed = Random(number).sample(jobs, len(jobs))
        return [job_id for job_id in mixed if _try_claim(store, job_id, f"worker {number}")]

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take_all, range(8)))
    assert sorted(job_id for mine in taken for job_id in mine) == sorted(jobs)
    for number, mine in enumerate(taken):
        for job_id in mine:
            row = _row(store, job_id)
            assert (row.lease_owner, row.attempts) == (f"worker {number}", 1)


def test_two_reapers_at_once_take_back_what_is_expired_once(store: Sessions, model: str) -> None:
    jobs = [_job(store, model) for _ in range(4)]
    for job_id in jobs:
        _claim(store, job_id)
        _expire(store, job_id)
    with store.begin() as one, store.begin() as other:
        taken = reaping.reap_jobs(one, LOSSES)
        assert reaping.reap_jobs(other, LOSSES) == [], "it does not wait either"
    assert sorted(taken) == sorted(jobs)
    assert _reap(store) == []


WRITES: dict[str, Callable[[Session, claims.Claim], object]] = {
    "renew": lambda session, claimed: runs.renew(session, claimed, SECONDS),
    "restarted": runs.restarted,
    "store events": lambda session, claimed: runs.store_events(
        session, claimed, [Log(level="info", message="x")]
    ),
    "keep a step": lambda session, claimed: runs.keep_step(
        session, claimed, 0, BLOB, FinishedStep(seconds=0, layers=[], skipped=[])
    ),
    "publish": lambda session, claimed: runs.publish(
        session,
        claimed,
        None,
        [(Produced(format="onnx", path="model.onnx"), "model.onnx", BLOB)],
        None,
        USAGE,
    ),
    "cancel": lambda session, claimed: runs.cancelled(session, claimed, USAGE),
    "give back": lambda session, claimed: runs.give_back(session, claimed, USAGE),
    "stumble": lambda session, claimed: runs.requeue_after_fault(
        session, claimed, USAGE, InternalError("x"), last=True, delay=0
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("taken_again", [True, False], ids=["taken again", "taken back"])
def test_an_older_token_writes_nothing(
    store: Sessions, model: str, write: Callable[[Session, claims.Claim], object], taken_again: bool
) -> None:
    job_id = _job(store, model)
    stale = _claim(store, job_id, "the sleeper")
    _expire(store, job_id)
    assert _reap(store) == [job_id]
    if taken_again:
        assert _claim(store, job_id, "the next").token > stale.token
    before = _everything(store, job_id)
    with pytest.raises(LeaseLost), store.begin() as session:
        write(session, stale)
    assert _everything(store, job_id) == before


def _everything(store: Sessions, job_id: str) -> list[object]:
    with store() as session:
        row = session.execute(
            text("SELECT row_to_json(jobs)::text FROM jobs WHERE id = :id"), {"id": job_id}
        ).scalar_one()
        told = [(event.number, event.data) for event in events.after(session, job_id, 0)]
        steps = session.scalars(select(StepRow.index).where(StepRow.job_id == job_id)).all()
        made = session.scalars(select(ArtifactRow.id).where(ArtifactRow.job_id == job_id)).all()
        return [row, told, steps, made]


def test_a_lease_that_ran_out_unnoticed_is_good_again_once_renewed(
    store: Sessions, model: str
) -> None:
    claimed = _claim(store, _job(store, model))
    _expire(store, claimed.id)
    with store.begin() as session:
        assert runs.renew(session, claimed, SECONDS) is False
    assert _reap(store) == []
    assert _row(store, claimed.id).lease_owner == "a"


def test_a_lease_lasts_by_the_databases_clock(store: Sessions, model: str) -> None:
    """Nothing of the worker's clock is in a claim or a renewal: both are SQL."""
    claimed = _claim(store, _job(store, model))
    left = select(func.extract("epoch", JobRow.lease_expires_at - func.clock_timestamp()))
    for seconds in (SECONDS, 2 * SECONDS):
        with store.begin() as session:
            runs.renew(session, claimed, seconds)
            found = session.scalars(left.where(JobRow.id == claimed.id)).one()
            assert seconds - 5 < found <= seconds
    assert _reap(store) == []


def test_who_renews_learns_of_a_cancellation(store: Sessions, model: str) -> None:
    claimed = _claim(store, _job(store, model))
    with store.begin() as session:
        session.get_one(JobRow, claimed.id).cancel_requested = True
    with store.begin() as session:
        assert runs.renew(session, claimed, SECONDS) is True


def test_a_job_that_cannot_start_has_no_attempt(store: Sessions, model: str) -> None:
    cancelled, lacking = _job(store, model), _job(store, model)
    with store.begin() as session:
        session.get_one(JobRow, cancelled).cancel_requested = True
        row = session.get_one(JobRow, lacking)
        row.request = {**row.request, "evaluate": {"metric": {"model": "mdl_deleted"}}}
    for job_id, status in ((cancelled, "cancelled"), (lacking, "failed")):
        assert _try_claim(store, job_id) is None
        row = _row(store, job_id)
        assert (row.status, row.attempts, row.started_at) == (status, 0, None)
        assert _states(store, job_id) == [status]


def test_what_is_given_back_costs_no_attempt_and_may_be_taken_at_once(
    store: Sessions, model: str
) -> None:
    job_id = _job(store, model)
    for round_ in range(LOSSES):
        claimed = _claim(store, job_id)
        assert claimed.attempt == 1
        with store.begin() as session:
            runs.give_back(session, claimed, USAGE)
        row = _row(store, job_id)
        assert (row.status, row.attempts, row.lease_owner) == ("queued", 0, None)
        assert row.cpu_seconds == USAGE.cpu_seconds * (round_ + 1), "what was used is counted"


def test_a_stumble_costs_an_attempt_and_waits(store: Sessions, model: str) -> None:
    claimed = _claim(store, _job(store, model))
    with store.begin() as session:
        runs.requeue_after_fault(
            session, claimed, USAGE, InternalError("x"), last=False, delay=SECONDS
        )
    assert _row(store, claimed.id).attempts == 1
    assert _try_claim(store, claimed.id) is None, "not before its time"


def test_losses_in_a_row_are_bounded_and_the_reason_is_said(store: Sessions, model: str) -> None:
    job_id = _job(store, model)
    lost = [_lose(store, job_id) for _ in range(LOSSES)]
    assert [attempt for attempt, *_ in lost] == [1] * LOSSES, "no loss costs an attempt"
    assert [waits for _, waits, _ in lost] == [True] * (LOSSES - 1) + [False]
    row = _row(store, job_id)
    assert row.problem is not None
    assert (row.status, row.problem["type"]) == ("failed", "engine-crashed")
    assert f"{LOSSES} times in a row" in row.problem["detail"]
    assert row.attempts == LOSSES, "all starts are shown"
    assert _states(store, job_id) == [*["running", "queued"] * (LOSSES - 1), "running", "failed"]
    assert _try_claim(store, job_id) is None
    with store.begin() as session:
        transitions.retry(session, session.get_one(JobRow, job_id, with_for_update=True))
    assert _lose(store, job_id)[:2] == (1, True), "a retry has attempts and losses of its own"


def test_a_row_that_may_kill_its_workers_does_so_ever_more_seldom(
    store: Sessions, model: str
) -> None:
    job_id = _job(store, model)
    pauses = [_lose(store, job_id)[2] for _ in range(LOSSES - 1)]
    assert all(pause <= 0 for pause in pauses[: leases.LOST_AT_ONCE]), "it is hardly to blame"
    assert 0 < pauses[2] < pauses[3]
    assert leases.pause_after(1000) == leases.LONGEST_PAUSE_SECONDS


def test_a_finished_step_begins_the_row_of_losses_anew(store: Sessions, model: str) -> None:
    job_id = _job(store, model)
    for _ in range(2):
        for _ in range(LOSSES - 1):
            assert _lose(store, job_id)[1]
        claimed = _claim(store, job_id)
        with store.begin() as session:
            done = FinishedStep(seconds=0, layers=[], skipped=[])
            runs.keep_step(session, claimed, 0, BLOB, done)
            runs.give_back(session, claimed, USAGE)


def test_an_engine_that_died_counts_also_if_its_worker_dies_later(
    store: Sessions, model: str
) -> None:
    job_id = _job(store, model)
    claimed = _claim(store, job_id)
    with store.begin() as session:
        runs.restarted(session, claimed)
    _expire(store, job_id)
    assert _reap(store) == [job_id]
    assert _claim(store, job_id).attempt == 2


def test_a_silent_workers_job_that_was_to_be_cancelled_is(store: Sessions, model: str) -> None:
    claimed = _claim(store, _job(store, model))
    with store.begin() as session:
        session.get_one(JobRow, claimed.id).cancel_requested = True
    _expire(store, claimed.id)
    assert _reap(store) == []
    assert _states(store, claimed.id) == ["running", "cancelled"]


def test_uploads_are_leased_alike(store: Sessions) -> None:
    model = _model(store, status="inspecting")
    with store.begin() as session:
        hook = WebhookRow(id=ids.new("whk"), tenant="t", url="https://x.example", secret="s")
        hook.events = ["model.rejected"]
        session.add(hook)
    for loss in range(1, LOSSES + 1):
        with store.begin() as session:
            session.get_one(ModelRow, model).not_before = leases.seconds_from_now(0)
        with store.begin() as session:
            stale = inspections.claim(session, ModelRow, model, "a", SECONDS)
            assert stale is not None
            assert stale.attempts == 1
        with store.begin() as session:
            assert inspections.claim(session, ModelRow, model, "b", SECONDS) is None
            session.get_one(ModelRow, model).lease_expires_at = leases.seconds_from_now(-1)
        with store.begin() as session:
            waiting = reaping.reap_inspections(session, ModelRow, LOSSES)
            assert waiting == ([model] if loss < LOSSES else [])
        with pytest.raises(LeaseLost), store.begin() as session:
            inspections.reject(session, stale, InternalError("x"))
    with store() as session:
        assert session.get_one(ModelRow, model).status == "rejected"
        assert session.scalars(select(DeliveryRow.event)).all() == ["model.rejected"]
