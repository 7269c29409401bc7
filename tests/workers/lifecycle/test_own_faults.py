"""Faults of the service's own and slow stores: jobs and uploads are tried again, results count."""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.blobs import Blob, Blobs
from app.domain.directory import Result
from app.store import leases, runs
from app.store.tables import ModelRow
from tests.e2e.service import small_model
from tests.workers import liars
from tests.workers.lifecycle.jobs import (
    ATTEMPTS,
    layer_times_of,
    let_time_pass,
    row_of,
    submit,
    upload,
)
from tests.workers.worker import CAPABILITIES
from workers.runs import tools
from workers.runs.attempts import Engine
from workers.runs.hold import Hold
from workers.runs.inspection import inspect_next
from workers.runs.order import order
from workers.runs.taking import run_next
from workers.worker import Worker


def test_a_fault_of_ours_is_tried_again_later_and_then_told(worker: Worker, model: str) -> None:
    """Here there is no such engine."""
    job_id = submit(worker, model)
    for attempt in range(1, ATTEMPTS + 1):
        run_next(replace(worker, entry=f"{liars.__name__}:nobody"))
        row = row_of(worker, job_id)
        assert (row.status, row.attempts) == ("queued" if attempt < ATTEMPTS else "failed", attempt)
        run_next(worker)
        assert row_of(worker, job_id).attempts == attempt, "not at once"
        let_time_pass(worker)
    assert row.problem is not None
    assert row.problem["type"] == "internal-error"
    assert "nobody" not in row.problem["detail"]


def test_an_inspection_that_meets_a_fault_of_ours_is_tried_as_often_as_a_job(
    worker: Worker, tmp_path: Path
) -> None:
    model_id = upload(worker, tmp_path, small_model())
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
    job_id = submit(paced, model, "epochs=1")
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
    row = row_of(paced, job_id)
    assert (row.status, row.attempts, row.problem) == ("succeeded", 1, None)
    assert layer_times_of(paced) == [1.5]


def test_a_result_counts_though_the_times_of_its_layers_cannot_be_kept(
    paced: Worker, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(paced, model, "epochs=1")
    paced.ability.capabilities = CAPABILITIES
    answer, refused = Engine.answer, {"layer_times": {"no text column takes this: \0": 1.5}}
    monkeypatch.setattr(Engine, "answer", lambda self: answer(self).model_copy(update=refused))
    run_next(paced)
    row = row_of(paced, job_id)
    assert (row.status, row.attempts, row.problem) == ("succeeded", 1, None)
    assert layer_times_of(paced) == []


def test_a_store_that_is_away_when_a_tool_has_run_is_waited_for(
    paced: Worker, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(paced, model, "epochs=1")
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
    row = row_of(paced, job_id)
    assert (row.status, row.attempts, row.problem) == ("succeeded", 1, None)
    assert next(faults, None) is None, "the order was written twice"
