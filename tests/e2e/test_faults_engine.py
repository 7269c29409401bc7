"""Faults of the engine process, numbered as in the list of faults to survive."""

import hashlib

from tests.e2e.service import GIB, Service


def test_without_a_fault_a_model_is_quantized_and_nothing_is_left(
    service: Service, model: str
) -> None:
    job = service.finished(service.submit(model))
    assert job["status"] == "succeeded", job
    assert hashlib.sha256(service.artifact(job)).hexdigest() == job["artifacts"][0]["sha256"]
    assert job["progress"] == 1
    assert [report["method"] for report in job["step_reports"]] == ["quantize"]
    assert service.states(job["id"]) == ["queued", "running", "succeeded"]


def test_1_a_killed_engine_goes_on_from_its_last_checkpoint(service: Service, model: str) -> None:
    job_id = service.submit(model, "epochs=25")
    service.running(job_id, 0.3)
    for process in service.engines(service.jobs):
        process.kill()
    job = service.assert_undisturbed(job_id, [25])
    assert job["attempts"] == 2
    assert job["usage"]["cpu_seconds"] > 0
    seen = service.rows(
        "SELECT count(*) FROM events WHERE job_id = %s AND data->>'stage' LIKE %s",
        job_id,
        "%epoch 1",
    )
    assert seen in ([(0,)], [(1,)]), "epochs before the checkpoint are not done again"


def test_6_a_run_over_its_memory_fails_and_says_so_while_its_neighbour_goes_on(
    service: Service, model: str
) -> None:
    with service.more() as other:
        workers = service.jobs.pid, other.pid
        neighbour = service.submit(model, "epochs=100")
        service.running(neighbour)
        job = service.finished(service.submit(model, "hoard"))
        assert job["status"] == "failed"
        assert job["problem"]["type"] == "memory-limit"
        assert job["problem"]["limit_bytes"] == GIB
        assert str(GIB) in job["problem"]["detail"]
        assert job["attempts"] == 2
        assert job["usage"]["peak_memory_bytes"] > GIB
        assert job["artifacts"] == []
        assert service.states(job["id"]) == ["queued", "running", "failed"]
        assert service.job(neighbour)["status"] == "running"
        following = service.submit(model, "epochs=1")
        assert service.assert_undisturbed(following, [1])["attempts"] == 1
        assert service.assert_undisturbed(neighbour, [100])["attempts"] == 1
        assert (service.jobs.pid, other.pid) == workers


def test_a_run_over_its_disk_fails_and_says_so(service: Service, model: str) -> None:
    job = service.finished(service.submit(model, "fill"))
    assert (job["status"], job["problem"]["type"]) == ("failed", "storage-limit")


def test_a_run_over_its_time_fails_and_says_so(service: Service, model: str) -> None:
    limits = {"running_minutes": 2 / 60}
    job = service.finished(service.submit(model, "epochs=600", limits=limits))
    assert (job["status"], job["problem"]["type"]) == ("failed", "running-limit")
    assert job["progress"] < 0.5, "of a minute's work"
    assert job["attempts"] == 1


def test_18_a_poison_job_fails_after_bounded_attempts_with_the_reason(
    service: Service, model: str
) -> None:
    job = service.finished(service.submit(model, "die=1000"))
    assert (job["status"], job["problem"]["type"]) == ("failed", "engine-crashed")
    assert job["attempts"] == 3
    assert "Segmentation fault" in job["problem"]["detail"]
    assert "in the last of 3 starts" in job["problem"]["detail"]
    assert "about to die" not in job["problem"]["detail"], "that is for the worker's log"


def test_a_retry_of_a_poison_job_has_attempts_of_its_own(service: Service, model: str) -> None:
    job_id = service.submit(model, "die=1000", "epochs=3")
    assert service.finished(job_id)["attempts"] == 3
    assert service.http.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    assert service.finished(job_id)["attempts"] == 6
    assert service.states(job_id).count("failed") == 2


def test_an_engine_that_dies_twice_and_then_lives_succeeds(service: Service, model: str) -> None:
    job_id = service.submit(model, "die=2", "epochs=3")
    assert service.assert_undisturbed(job_id, [3])["attempts"] == 3


def test_events_that_are_none_are_passed_over(service: Service, model: str) -> None:
    job_id = service.submit(model, "garble", "epochs=3")
    service.assert_undisturbed(job_id, [3])
    said = service.rows(
        "SELECT data->>'message' FROM events WHERE job_id = %s AND kind = 'log'", job_id
    )
    assert said == [("�",)]
