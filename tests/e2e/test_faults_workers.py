"""Faults of worker processes, numbered as in the list of faults to survive."""

import os
import re
import signal
import time
from collections.abc import Iterator

import pytest

from app.local.server import Server
from tests.e2e.service import RECLAIMED_SECONDS, Service
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _worker_runs_again(service: Service) -> Iterator[None]:
    """Whatever a test does to the worker, the next one finds it well."""
    yield
    if service.jobs.pid is not None:
        os.kill(service.jobs.pid, signal.SIGCONT)
    else:
        service.jobs.start()
        service.await_worker(service.jobs)


def test_2_a_killed_worker_takes_its_engine_with_it_and_its_job_is_reclaimed(
    service: Service, model: str
) -> None:
    with service.more() as victim:
        with service.asleep(service.jobs):
            job_id = service.submit_twice_the_step(model, "epochs=20")
            service.running(job_id)
        assert service.holder(job_id) is victim
        service.running(job_id, 0.55)
        ((holder,),) = service.rows("SELECT lease_owner FROM jobs WHERE id = %s", job_id)
        assert service.busy(victim)
        engines = service.engines(victim)
        service.end(victim)
        began = time.monotonic()
        eventually(lambda: not any(each.is_running() for each in engines), what="engine's death")
        eventually(
            lambda: service.rows(
                "SELECT 1 FROM jobs WHERE id = %s AND status = 'running' AND lease_owner <> %s",
                job_id,
                holder,
            ),
            RECLAIMED_SECONDS,
            "the next claim",
        )
        assert time.monotonic() - began < RECLAIMED_SECONDS
        left = service.directory / holder
        eventually(lambda: not left.exists(), what="the removal of its directory by its neighbours")
        job = service.assert_undisturbed(job_id, [20, 20])
        assert job["attempts"] == 2
        assert service.states(job_id) == ["queued", "running", "queued", "running", "succeeded"]
        firsts = service.rows(
            "SELECT count(*) FROM events WHERE job_id = %s AND data->>'stage' = %s",
            job_id,
            "step 0, epoch 20",
        )
        assert firsts[0][0] <= 1, "the finished step is not done again"


@pytest.mark.parametrize("other", ["light", "gateway"])
def test_20_whoever_is_left_takes_back_what_two_killed_processes_held(
    service: Service, model: str, other: str
) -> None:
    """Both workers of the default set-up, or the worker and the gateway."""
    second: Server = getattr(service, other)
    job_id = service.submit(model, "epochs=8")
    service.running(job_id)
    service.end(service.jobs)
    service.end(second)
    try:
        eventually(
            lambda: service.rows(
                "SELECT 1 FROM jobs WHERE id = %s AND status = 'queued' AND lease_owner IS NULL",
                job_id,
            ),
            RECLAIMED_SECONDS,
            "taking the job back",
        )
    finally:
        second.start()
    service.jobs.start()
    for server in (service.light, service.jobs):
        service.await_worker(server)
    assert service.assert_undisturbed(job_id, [8])["attempts"] == 2


def test_3_a_stopped_worker_that_wakes_up_publishes_nothing(service: Service, model: str) -> None:
    job_id = service.submit(model, "epochs=8")
    service.running(job_id)
    asleep = service.jobs.pid
    assert asleep is not None
    os.kill(asleep, signal.SIGSTOP)
    with service.more():
        job = service.assert_undisturbed(job_id, [8])
        told = service.rows("SELECT count(*) FROM events WHERE job_id = %s", job_id)
        os.kill(asleep, signal.SIGCONT)
        eventually(lambda: not service.engines(service.jobs), what="the sleeper's giving up")
        eventually(lambda: not service.busy(service.jobs), what="the sleeper's giving up")
        assert service.job(job_id) == job
        assert service.rows("SELECT count(*) FROM events WHERE job_id = %s", job_id) == told
        assert service.rows("SELECT count(*) FROM artifacts WHERE job_id = %s", job_id) == [(1,)]


def test_4_a_lease_does_not_pass_to_a_worker_that_only_looks_the_same(
    service: Service, model: str
) -> None:
    job_id = service.submit(model, "epochs=15")
    service.running(job_id)
    service.end(service.jobs)
    (before,) = service.rows("SELECT lease_owner, lease_token FROM jobs WHERE id = %s", job_id)
    service.jobs.start()
    service.assert_undisturbed(job_id, [15])
    claims = service.states(job_id).count("running")
    (after,) = service.rows("SELECT lease_owner, lease_token FROM jobs WHERE id = %s", job_id)
    assert claims == 2
    assert after[1] > before[1]


def test_5_a_deploy_gives_the_job_back_at_once_and_spends_no_attempt(
    service: Service, model: str
) -> None:
    with service.more():
        job_id = service.submit(model, "epochs=25")
        service.running(job_id, 0.1)
        victim = service.holder(job_id)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGTERM)
        eventually(lambda: service.states(job_id)[-2:] == ["queued", "running"], what="a claim")
        eventually(lambda: victim.pid is None, what="the worker's end")
        victim.stop()
        assert victim.exit_code == 0
        job = service.assert_undisturbed(job_id, [25])
        assert job["attempts"] == 1, "it was given back: nobody waited for the lease to run out"


def test_15_two_reapers_at_once_take_each_job_back_once(service: Service, model: str) -> None:
    with service.more("light"), service.more():
        jobs = [service.submit(model, "epochs=60") for _ in range(2)]
        for job_id in jobs:
            service.running(job_id)
        service.end(service.jobs)
        service.jobs.start()
        attempts = sorted(service.assert_undisturbed(each, [60])["attempts"] for each in jobs)
        assert attempts == [1, 2]
        told = [service.states(each) for each in jobs]
        assert sorted(states.count("running") for states in told) == [1, 2]


def test_15_a_wrong_clock_changes_nothing(service: Service, model: str) -> None:
    with service.wrong_clock(minutes=5), service.wrong_clock(minutes=-5):
        service.end(service.jobs)
        jobs = [service.submit(model, "epochs=30") for _ in range(2)]
        for job_id in jobs:
            assert service.assert_undisturbed(job_id, [30])["attempts"] == 1


def test_22_a_worker_whose_engine_can_do_no_run_says_so_and_takes_no_job(
    service: Service, model: str
) -> None:
    service.end(service.jobs, signal.SIGTERM)
    with service.more(ENGINE_MEMORY_BYTES=str(8 * 1024**2)) as unable:
        seen = eventually(
            lambda: [each for each in service.workers() if each["unable"]], what="the announcement"
        )
        assert "memory" in seen[0]["unable"]
        job_id = service.submit(model, "epochs=1")
        time.sleep(3)
        assert (service.job(job_id)["status"], service.job(job_id)["attempts"]) == ("queued", 0)
        assert service.states(job_id) == ["queued"]
        service.jobs.start()
        service.await_worker(service.jobs)
        service.assert_undisturbed(job_id, [1])
        assert unable.pid is not None, "it goes on, and tries again"
    able = [each for each in service.workers() if each["queue"] == "jobs" and not each["unable"]]
    assert able[-1]["claimed_at"] is not None, "the newest is last"


def test_a_worker_tells_its_container_of_its_last_claim(service: Service, model: str) -> None:
    service.assert_undisturbed(service.submit(model, "epochs=1"), [1])

    def well() -> bool:
        done = service.planish("worker", "--health")
        claimed = re.search(r"^jobs on cpu: well, last claim \d+ s ago$", done.stdout, re.MULTILINE)
        return done.returncode == 0 and claimed is not None

    eventually(well, what="the next look for work")


def test_8_a_worker_that_starts_while_the_database_is_away_waits_for_it(
    service: Service, model: str
) -> None:
    service.end(service.jobs, signal.SIGTERM)
    service.postgres.stop()
    try:
        service.jobs.start()
        time.sleep(5)
        assert service.jobs.pid is not None, "it has not ended"
    finally:
        service.postgres.start()
    service.await_worker(service.jobs)
    service.assert_undisturbed(service.submit(model, "epochs=1"), [1])
