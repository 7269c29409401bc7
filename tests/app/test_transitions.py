"""Every change of a job's status comes with its event, and a terminal one with its webhooks."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.problems import StepFailed
from app.settings import Database
from app.store import events, stats, transitions
from app.store.session import connect, sessions
from app.store.tables import DeliveryRow, JobRow, WebhookRow


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    engine = connect(Database(url=database))
    with sessions(engine)() as opened:
        yield opened
    engine.dispose()


def test_a_terminal_state_is_told_once_and_ends_the_lease(session: Session) -> None:
    job = _running(session)
    token = job.lease_token
    transitions.finish(session, job, "failed", StepFailed("no such node"))
    session.commit()
    assert (job.status, job.lease_owner, job.lease_expires_at) == ("failed", None, None)
    assert job.lease_token > token
    assert job.problem is not None
    assert job.problem["type"] == "step-failed"
    assert [event.data["status"] for event in events.after(session, job.id, 0)] == [
        "running",
        "failed",
    ]
    with pytest.raises(AssertionError):
        transitions.finish(session, job, "succeeded")


def test_only_webhooks_of_the_tenant_that_want_the_event_are_told(session: Session) -> None:
    job = _running(session)
    wanted = _hook(session, "acme", ["job.cancelled"])
    one_off = _hook(session, "acme", ["job.cancelled"], job_id=job.id)
    _hook(session, "acme", ["job.failed"])
    _hook(session, "other", ["job.cancelled"])
    _hook(session, "acme", ["job.cancelled"], enabled=False)
    transitions.finish(session, job, "cancelled")
    session.commit()
    told = session.scalars(select(DeliveryRow)).all()
    assert {delivery.webhook_id for delivery in told} == {wanted.id, one_off.id}
    assert all('"status":"cancelled"' in delivery.payload for delivery in told)
    assert all("step_reports" not in delivery.payload for delivery in told)


@pytest.mark.parametrize(("spent", "attempts"), [(True, 1), (False, 0)])
def test_a_job_that_is_given_back_waits_again(session: Session, spent: bool, attempts: int) -> None:
    job = _running(session)
    transitions.give_back(session, job, spent=spent, delay_seconds=60)
    session.commit()
    session.refresh(job)
    assert (job.status, job.attempts) == ("queued", attempts)
    assert job.running_seconds > 0
    assert session.scalar(select(JobRow.not_before > func.now()).where(JobRow.id == job.id))


def test_the_age_of_the_queue_leaves_out_the_time_that_a_job_ran(session: Session) -> None:
    ran, never_began = _running(session), _running(session)
    hour_ago = func.now() - timedelta(hours=1)
    ran.queued_at = ran.started_at = never_began.queued_at = hour_ago
    session.commit()
    transitions.give_back(session, ran, spent=False)
    session.commit()
    assert 0 < stats.queue_age(session) < 600
    transitions.give_back(session, never_began, spent=False)
    session.commit()
    assert stats.queue_age(session) > 3000, "its limit counts all that it waits for a first worker"


def test_event_numbers_count_up_without_gaps_within_a_job(session: Session) -> None:
    first, second = _running(session), _running(session)
    for _ in range(3):
        events.append(session, first.id, "log", {"level": "info", "message": "x"})
        events.append(session, second.id, "log", {"level": "info", "message": "y"})
    session.commit()
    assert [event.number for event in events.after(session, first.id, 0)] == [1, 2, 3, 4]
    assert [event.number for event in events.after(session, first.id, 2)] == [3, 4]


def _running(session: Session) -> JobRow:
    model = ids.new("mdl")
    job = JobRow(
        id=ids.new("job"),
        tenant="acme",
        tags=[],
        request={"model": model, "steps": [{"method": "quantize", "mode": "dynamic"}]},
        model_id=model,
        status="queued",
        stage="queued",
        lease_token=1,
        lease_owner="worker",
        lease_expires_at=func.now(),
        claimed_at=func.now(),
        attempts=1,
    )
    session.add(job)
    session.commit()
    transitions.enter(session, job, "running", "starting")
    session.commit()
    return job


def _hook(
    session: Session,
    tenant: str,
    events_wanted: list[str],
    *,
    job_id: str | None = None,
    enabled: bool = True,
) -> WebhookRow:
    hook = WebhookRow(
        id=ids.new("whk"),
        tenant=tenant,
        job_id=job_id,
        url="https://example.com/hook",
        events=events_wanted,
        enabled=enabled,
        secret="whsec_x",
    )
    session.add(hook)
    session.commit()
    return hook
