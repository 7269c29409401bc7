"""Faults of the engine process, numbered as in the list of faults to survive."""

import hashlib

from tests.e2e import engine
from tests.e2e.service import Service


def graph(service: Service, model: str) -> bytes:
    """Return what steps read: the model in normal form."""
    (sha256,) = service.rows("SELECT graph_sha256 FROM models WHERE id = %s", model)[0]
    storage = service.directory.parent / "storage"
    return (storage / "blobs" / sha256[:2] / sha256[2:4] / sha256).read_bytes()


def assert_undisturbed(service: Service, model: str, job_id: str, steps: list[int]) -> None:
    """The job succeeded, once, with the artifact of a run that nothing disturbed."""
    job = service.finished(job_id)
    assert job["status"] == "succeeded", job
    assert service.artifact(job) == engine.expected(graph(service, model), steps)
    terminal = [s for s in service.states(job_id) if s not in {"queued", "running"}]
    assert terminal == ["succeeded"]
    assert job["attempts"] >= 1


def test_real_engine_end_to_end(service: Service, model: str) -> None:
    """Without any fault: upload, inspect, quantize, publish."""
    job = service.finished(service.submit(model))
    assert job["status"] == "succeeded", job
    assert hashlib.sha256(service.artifact(job)).hexdigest() == job["artifacts"][0]["sha256"]


def test_1_a_killed_engine_goes_on_from_its_last_checkpoint(service: Service, model: str) -> None:
    job_id = service.submit(model, "epochs=25")
    service.running(job_id, 0.3)
    for process in service.engines(service.jobs):
        process.kill()
    assert_undisturbed(service, model, job_id, [25])
    assert service.job(job_id)["attempts"] == 2
    starts = service.rows(
        "SELECT count(*) FROM events WHERE job_id = %s AND data->>'stage' = 'step 0, epoch 1'",
        job_id,
    )
    assert starts == [(1,)], "epochs before the checkpoint are not done again"
