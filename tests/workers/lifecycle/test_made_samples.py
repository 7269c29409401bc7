"""Samples that are made from a model: once for a job, and once for all trials of a search."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from app.blobs import Blob
from app.domain.directory import GENERATED, MADE_ORIGIN
from app.domain.reports import Generated
from app.domain.searches import begun
from app.store import made_samples, retention, runs, searches, stats, transitions, turns
from app.store.tables import JobRow, MadeSamplesRow
from tests.app.claiming import claim_job
from tests.waiting import eventually
from tests.workers.lifecycle import jobs
from workers.runs import answers
from workers.runs.taking import run_next
from workers.sandbox.directories import Place
from workers.worker import Worker

BLOB = Blob("a" * 64, 1000, key="")
MADE = Generated(way="declared", samples=40, note="Made before.")
MAKER = "this machine, these versions"


def submit(worker: Worker, model: str, **more: Any) -> str:
    """Submit a job without data, or a trial of a search; return its id."""
    return jobs.submit(worker, model, data="generated", **more)


def searching(worker: Worker, model: str) -> str:
    """Submit a search, which nobody runs."""
    job_id = submit(worker, model)
    with worker.sessions.begin() as session:
        state = begun("guided", 2).model_dump(mode="json")
        session.get_one(JobRow, job_id).search = state
    return job_id


@pytest.fixture
def search(worker: Worker, model: str) -> str:
    return searching(worker, model)


def kept(worker: Worker) -> dict[str, str]:
    """Return the blobs of made samples by the job that they belong to."""
    with worker.sessions() as session:
        rows = session.execute(select(MadeSamplesRow.job_id, MadeSamplesRow.sha256))
        return {row.job_id: row.sha256 for row in rows}


def test_one_trial_makes_the_samples_and_the_others_read_them(
    worker: Worker, model: str, search: str
) -> None:
    limits = {"running_minutes": 0.5}
    first, second = (submit(worker, model, parent=search, limits=limits) for _ in range(2))
    assert run_next(worker)
    made = kept(worker)
    assert set(made) == {search}
    renamed = MADE.model_copy(update={"samples": 0}).model_dump()
    with worker.sessions.begin() as session:
        row = session.get_one(MadeSamplesRow, search)
        counted = stats.stored_bytes(session, "t")
        assert counted > row.size_bytes
        row.generated = {**renamed, "samples": row.generated["samples"]}
    assert run_next(worker)
    with worker.sessions() as session:
        notes = {
            job.id: (job.evaluation or {})["generated"]["note"]
            for job in session.scalars(select(JobRow).where(JobRow.parent_id == search))
        }
    assert notes[second] == MADE.note, "it read what was stored"
    assert notes[first] != MADE.note
    assert kept(worker) == made
    with worker.sessions.begin() as session:
        transitions.finish(session, session.get_one(JobRow, search), "succeeded")
    assert kept(worker) == {}, "no trial follows"


def test_a_search_may_end_while_a_trial_keeps_its_samples(
    worker: Worker, model: str, search: str
) -> None:
    """Both lock the search first: otherwise each would wait for what the other has locked."""
    trial = submit(worker, model, parent=search)
    with worker.sessions.begin() as session:
        claimed = claim_job(session, trial, "w", 60, MAKER)
        assert claimed is not None

    def keep() -> None:
        with worker.sessions.begin() as session:
            runs.keep_samples(session, claimed, BLOB, MADE)

    waiting = text(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )

    def is_waiting() -> object:
        with worker.sessions() as looking:  # a transaction sees one state of the activity alone
            return looking.execute(waiting).first()

    with ThreadPoolExecutor(1) as pool:
        with worker.sessions.begin() as turn:
            assert searches.hold(turn, search) is not None
            kept_later = pool.submit(keep)
            eventually(is_waiting, what="waiting for the turn")
            assert searches.end_trials(turn, search), "the trial's worker is asked to stop"
        kept_later.result()
    assert set(kept(worker)) == {search}


def test_a_job_that_runs_again_reads_the_samples_that_it_has_made(
    worker: Worker, model: str
) -> None:
    """A worker may die within a step; the samples, and what is held out of them, stay the same."""
    job_id = submit(worker, model)
    with worker.sessions.begin() as session:
        assert turns.next_job(session, worker.offer, {}) == job_id
        claimed = claim_job(session, job_id, "w", 60, MAKER)
        assert claimed is not None
        assert claimed.made_samples is None
        runs.keep_samples(session, claimed, BLOB, MADE)
        runs.keep_samples(session, claimed, Blob("b" * 64, 5, key=""), MADE)
        transitions.give_back(session, session.get_one(JobRow, job_id), spent=True)
    with worker.sessions.begin() as session:
        again = claim_job(session, job_id, "w", 60, MAKER)
        assert again is not None
        assert again.made_samples is not None
        assert (again.made_samples.sha256, again.made_samples.generated) == (BLOB.sha256, MADE)


def test_steps_on_samples_of_another_job_are_other_steps(
    worker: Worker, model: str, search: str
) -> None:
    keys = []
    for parent in (search, search, None, None):
        job_id = submit(worker, model, parent=parent)
        with worker.sessions.begin() as session:
            claimed = claim_job(session, job_id, "w", 60, MAKER)
            assert claimed is not None
            keys.append(claimed.step_keys)
    assert keys[0] == keys[1], "trials of one search read the same samples"
    assert len(set(keys)) == 3


def test_samples_go_with_their_search_and_with_its_graphs(worker: Worker, model: str) -> None:
    deleted, old = (searching(worker, model) for _ in range(2))
    with worker.sessions.begin() as session:
        before = stats.stored_bytes(session, "t")
        for job_id in (deleted, old):
            made_samples.keep(session, session.get_one(JobRow, job_id), BLOB, MADE)
        assert stats.stored_bytes(session, "t") == before + 2 * BLOB.size_bytes
        session.delete(session.get_one(JobRow, deleted))
    assert set(kept(worker)) == {old}
    with worker.sessions.begin() as session:
        transitions.finish(session, session.get_one(JobRow, old), "cancelled")
        assert made_samples.of_job(session, session.get_one(JobRow, old)), "a retry reads them"
        long_ago = func.now() - func.make_interval(0, 0, 0, 365)
        session.execute(update(JobRow).where(JobRow.id == old).values(finished_at=long_ago))
        days = worker.settings.retention.model_copy(update={"steps_days": 7.0})
        retention.prune_jobs(session, days, None, 10)
    assert kept(worker) == {}
    with worker.sessions() as session:
        assert stats.stored_bytes(session, "t") == before


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"[]",
        b'{"way": "stolen", "samples": 40, "note": ""}',
        MADE.model_copy(update={"note": "x" * answers.MAX_ORIGIN_BYTES}).model_dump_json().encode(),
    ],
    ids=["empty", "a list", "another way", "too long"],
)
def test_a_report_that_an_engine_would_not_write_is_not_read(tmp_path: Path, origin: bytes) -> None:
    place = Place(tmp_path, tmp_path)
    (tmp_path / GENERATED).mkdir()
    path = tmp_path / GENERATED / MADE_ORIGIN
    path.write_text(MADE.model_dump_json())
    assert answers.generated(place) == MADE
    path.write_bytes(origin)
    with pytest.raises(answers.Unreadable):
        answers.generated(place)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(answers.Unreadable):
        answers.generated(place)
