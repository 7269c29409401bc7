"""Jobs of one worker: how they are submitted, and what the stores say of them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select, text

from app.domain import ids
from app.store import blob_rows, events
from app.store.tables import ArtifactRow, JobRow, LayerTimeRow, ModelRow
from tests.e2e import engine
from tests.waiting import eventually
from workers.runs.taking import run_next
from workers.worker import Worker

ATTEMPTS = 3
"""That a job or an inspection has."""


def upload(worker: Worker, tmp_path: Path, content: bytes) -> str:
    """Upload a model; return its id."""
    file = tmp_path / "upload"
    file.write_bytes(content)
    blob = worker.blobs.put_file(file)
    with worker.sessions.begin() as session:
        blob_rows.touch(session, blob.sha256, blob.size_bytes)
        session.flush()
        row = ModelRow(id=ids.new("mdl"), tenant="t", sha256=blob.sha256, size_bytes=1)
        session.add(row)
    return row.id


def submit(
    worker: Worker,
    model: str,
    *words: str,
    steps: int = 1,
    parent: str | None = None,
    **more: Any,
) -> str:
    """Submit a job, or a trial of a search; return its id.

    Args:
        worker: whose stores keep it.
        model: its id.
        words: what the paced engine is to do (`tests.e2e.engine`).
        steps: how many there are.
        parent: the search whose trial it is.
        more: of the request.
    """
    step = {"method": "quantize", "mode": "float16", "force": True, "ignore": list(words)}
    with worker.sessions.begin() as session:
        row = JobRow(
            id=ids.new("job"),
            tenant="t",
            tags=[],
            model_id=model,
            parent_id=parent,
            request={"model": model, "steps": [step] * steps, **more},
        )
        session.add(row)
        return row.id


def row_of(worker: Worker, job_id: str) -> JobRow:
    """Return the row of a job."""
    with worker.sessions() as session:
        return session.get_one(JobRow, job_id)


def layer_times_of(worker: Worker) -> Sequence[float]:
    """Return all times of layers that are kept, in milliseconds."""
    with worker.sessions() as session:
        return session.scalars(select(LayerTimeRow.milliseconds)).all()


def states_of(worker: Worker, job_id: str) -> list[str]:
    """Return the states that a job told of, in order; no event is missing."""
    with worker.sessions() as session:
        told = events.after(session, job_id, 0)
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    return [event.data["status"] for event in told if event.kind == "state"]


def artifacts_of(worker: Worker, job_id: str, tmp_path: Path) -> list[bytes]:
    """Return the files that a job made."""
    with worker.sessions() as session:
        stored = session.scalars(
            select(ArtifactRow.sha256).where(ArtifactRow.job_id == job_id)
        ).all()
    for sha256 in stored:
        worker.blobs.fetch(sha256, tmp_path / sha256)
    return [(tmp_path / sha256).read_bytes() for sha256 in stored]


def expected_of(worker: Worker, model: str, epochs: list[int], tmp_path: Path) -> bytes:
    """Return what the paced engine makes of a model in steps of so many epochs."""
    with worker.sessions() as session:
        graph = session.get_one(ModelRow, model).graph_sha256
    assert graph is not None
    worker.blobs.fetch(graph, tmp_path / "graph")
    return engine.expected((tmp_path / "graph").read_bytes(), epochs)


@contextmanager
def during(worker: Worker, job_id: str) -> Iterator[None]:
    """Run a job; the block happens when it has got somewhere, and has to end it within seconds."""
    running = threading.Thread(target=run_next, args=(worker,))
    running.start()
    try:
        eventually(lambda: row_of(worker, job_id).progress > 0, 20)
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


def let_time_pass(worker: Worker) -> None:
    """Let jobs that wait for their next attempt have it now."""
    with worker.sessions.begin() as session:
        session.execute(text("UPDATE jobs SET not_before = now() WHERE status = 'queued'"))


def cancel(worker: Worker, job_id: str) -> None:
    """Ask for the end of a job."""
    with worker.sessions.begin() as session:
        session.get_one(JobRow, job_id).cancel_requested = True
