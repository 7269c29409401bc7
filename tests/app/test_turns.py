"""Whose turn it is: tenants share what runs, a tenant orders its own, and nobody waits for ever."""

import random
from collections import Counter
from typing import Any

import pytest

from app.domain import ids
from app.store import blob_rows, claims, inspections, leases, turns
from app.store.session import Sessions
from app.store.tables import DatasetRow, JobRow, ModelRow
from tests.app.claiming import claim_job
from tests.app.service import DYNAMIC, MODEL

CPU = claims.WorkerOffer("cpu")
SECONDS = 60.0
SHA256 = "0" * 64


@pytest.fixture
def model(store: Sessions) -> str:
    """A model that is ready; jobs of every tenant name it here."""
    with store.begin() as session:
        blob_rows.touch(session, SHA256, 1)
        session.flush()
        row = ModelRow(
            id=ids.new("mdl"),
            tenant="t",
            sha256=SHA256,
            size_bytes=1,
            onnx_sha256=SHA256,
            graph_sha256=SHA256,
            status="ready",
            description=MODEL,
        )
        session.add(row)
        return row.id


def submit(
    store: Sessions, model: str, tenant: str, count: int = 1, **columns: object
) -> list[str]:
    with store.begin() as session:
        rows = [
            JobRow(
                id=ids.new("job"),
                tenant=tenant,
                tags=[],
                model_id=model,
                request={"model": model, "steps": DYNAMIC},
                **columns,
            )
            for _ in range(count)
        ]
        for row in rows:
            session.add(row)
            session.flush()
        return [row.id for row in rows]


def start(
    store: Sessions, offer: claims.WorkerOffer = CPU, weights: turns.Weights | None = None
) -> tuple[str, str] | None:
    """Let a worker claim what is next; return the tenant and the job."""
    with store.begin() as session:
        job_id = turns.next_job(session, offer, weights or {})
        if job_id is None:
            return None
        claimed = claim_job(session, job_id, "w", SECONDS)
        assert claimed is not None
        return session.get_one(JobRow, job_id).tenant, job_id


def end(store: Sessions, job_id: str) -> None:
    with store.begin() as session:
        session.get_one(JobRow, job_id).status = "succeeded"


def test_one_job_does_not_wait_for_anothers_thousand(store: Sessions, model: str) -> None:
    submit(store, model, "many", 1000)
    first = start(store)
    assert first is not None
    submit(store, model, "one")
    end(store, first[1])
    second = start(store)
    assert second is not None
    assert second[0] == "one", "one worker, and the other tenant's turn"


def test_tenants_take_turns_on_one_worker(store: Sessions, model: str) -> None:
    for tenant in ("a", "b", "c"):
        submit(store, model, tenant, 4)
    order = []
    while (started := start(store)) is not None:
        order.append(started[0])
        end(store, started[1])
    assert [sorted(order[at : at + 3]) for at in range(0, 12, 3)] == [["a", "b", "c"]] * 4


@pytest.mark.parametrize("slots", [1, 6])
def test_weights_share_the_turns(store: Sessions, model: str, slots: int) -> None:
    for tenant in ("heavy", "light"):
        submit(store, model, tenant, 40)
    weights, running, order = {"heavy": 2.0}, list[str](), list[str]()
    for _ in range(30):
        if len(running) == slots:
            end(store, running.pop(0))
        started = start(store, weights=weights)
        assert started is not None
        order.append(started[0])
        running.append(started[1])
    assert Counter(order) == {"heavy": 20, "light": 10}


def test_who_was_away_saves_up_no_turns(store: Sessions, model: str) -> None:
    submit(store, model, "busy", 30)
    for _ in range(20):
        started = start(store)
        assert started is not None
        end(store, started[1])
    submit(store, model, "back", 10)
    order = []
    for _ in range(8):
        started = start(store)
        assert started is not None
        order.append(started[0])
        end(store, started[1])
    assert Counter(order) == {"busy": 4, "back": 4}


def test_priority_orders_a_tenants_own_jobs_and_nobody_elses(store: Sessions, model: str) -> None:
    plain, urgent, idle = (
        submit(store, model, "a", priority=priority)[0] for priority in (0, 10, -10)
    )
    other = submit(store, model, "b", priority=-10)[0]
    order = []
    while (started := start(store)) is not None:
        order.append(started[1])
        end(store, started[1])
    assert order == [urgent, other, plain, idle]


def test_a_job_waits_for_a_worker_that_has_what_it_requires(store: Sessions, model: str) -> None:
    gpu = submit(store, model, "a", requires_device="cuda")[0]
    arm = submit(store, model, "a", requires_labels=["arm64", "big"])[0]
    assert start(store) is None
    assert start(store, claims.WorkerOffer("cpu", ("arm64",))) is None
    assert start(store, claims.WorkerOffer("cpu", ("big", "arm64", "more"))) == ("a", arm)
    assert start(store, claims.WorkerOffer("cuda")) == ("a", gpu)


@pytest.mark.parametrize("seed", range(2))
def test_the_wait_is_bounded(store: Sessions, model: str, seed: int) -> None:
    """However jobs come and end, who waits and has nothing running is soon next.

    No other tenant starts more than two jobs before it: one for its own turn, and one that is as
    old a turn.
    """
    chance = random.Random(seed)
    tenants, slots = [f"t{number}" for number in range(6)], 4
    waiting, running = Counter[str](), dict[str, str]()
    passed = {tenant: Counter[str]() for tenant in tenants}
    for _ in range(120):
        for tenant in chance.sample(tenants, 2):
            burst = chance.choice((0, 1, 1, 8))
            submit(store, model, tenant, burst)
            waiting[tenant] += burst
        if len(running) == slots:
            done = chance.choice(sorted(running))
            end(store, done)
            del running[done]
        started = start(store)
        if started is None:
            assert not +waiting
            continue
        tenant, job_id = started
        running[job_id] = tenant
        waiting[tenant] -= 1
        for other in tenants:
            if other == tenant or other in running.values() or not waiting[other]:
                passed[other] = Counter()
            else:
                passed[other][tenant] += 1
                assert passed[other][tenant] <= 2


def upload(store: Sessions, table: type[ModelRow] | type[DatasetRow], tenant: str) -> str:
    with store.begin() as session:
        blob_rows.touch(session, SHA256, 1)
        session.flush()
        images: dict[str, Any] = {"images": {}} if table is DatasetRow else {}
        row = table(id=ids.new("mdl"), tenant=tenant, sha256=SHA256, size_bytes=1, **images)
        session.add(row)
        return row.id


def test_uploads_of_both_kinds_are_inspected_in_turns(store: Sessions) -> None:
    many = [upload(store, ModelRow, "many") for _ in range(20)]
    one = upload(store, DatasetRow, "one")
    order = []
    for _ in range(3):
        with store.begin() as session:
            chosen = turns.next_upload(session, {})
            assert chosen is not None
            kind, row_id = chosen
            table = inspections.TABLES[kind]
            assert inspections.claim(session, table, row_id, "w", SECONDS) is not None
            order.append(row_id)
    assert order == [many[0], one, many[1]]


def test_nothing_waits_nothing_is_locked(store: Sessions) -> None:
    """A nudge that finds nothing costs a look, and holds up no other."""
    with store.begin() as first, store.begin() as second:
        assert turns.next_job(first, CPU, {}) is None
        assert turns.next_upload(first, {}) is None
        assert turns.next_job(second, CPU, {}) is None
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert first.connection().exec_driver_sql(locks).scalar_one() == 0


def test_leases_of_uploads_count_as_running(store: Sessions) -> None:
    first, second = upload(store, ModelRow, "a"), upload(store, ModelRow, "a")
    other = upload(store, ModelRow, "b")
    with store.begin() as session:
        row = session.get_one(ModelRow, first, with_for_update=True)
        leases.take(session, row, "w", SECONDS)
    with store.begin() as session:
        assert turns.next_upload(session, {}) == ("model", other)
    assert second != other
