"""What a worker does about engines that die, or answer what is not so."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from app.domain.jobs import FINISHED
from app.domain.request_parts import Limits
from app.store import counters
from tests.workers import liars
from tests.workers.lifecycle.jobs import (
    ATTEMPTS,
    artifacts_of,
    expected_of,
    row_of,
    states_of,
    submit,
)
from workers.runs.hold import Hold
from workers.runs.taking import run_next
from workers.worker import Worker


def test_an_engine_that_dies_is_started_again_in_its_directory(
    paced: Worker, model: str, tmp_path: Path
) -> None:
    job_id = submit(paced, model, "die=2", "epochs=2")
    run_next(paced)
    assert row_of(paced, job_id).attempts == ATTEMPTS
    assert states_of(paced, job_id) == ["running", "succeeded"]
    assert artifacts_of(paced, job_id, tmp_path) == [expected_of(paced, model, [2], tmp_path)]


def test_an_engine_that_always_dies_is_given_up_with_the_reason(paced: Worker, model: str) -> None:
    job_id = submit(paced, model, "die=1000")
    run_next(paced)
    row = row_of(paced, job_id)
    assert row.problem is not None
    assert (row.status, row.problem["type"], row.attempts) == (
        "failed",
        "engine-crashed",
        ATTEMPTS,
    )
    assert "Segmentation fault" in row.problem["detail"]
    assert "at 'step 0'" in row.problem["detail"], "the stage that ran"


@pytest.mark.parametrize(
    "lie",
    [
        liars.answers_nothing,
        liars.answers_nonsense,
        liars.answers_without_a_report,
        liars.answers_with_a_link,
        liars.answers_with_a_pipe,
        liars.names_an_artifact_that_is_not_there,
        liars.names_a_link_as_artifact,
        liars.names_a_file_elsewhere_as_artifact,
    ],
)
def test_an_engine_is_not_believed(
    worker: Worker, model: str, tmp_path: Path, lie: Callable[[Path], int]
) -> None:
    job_id = submit(worker, model, "epochs=1")
    run_next(replace(worker, entry=f"{liars.__name__}:{lie.__name__}"))
    row = row_of(worker, job_id)
    assert row.problem is not None
    assert (row.status, row.problem["type"]) == ("failed", "engine-crashed")
    assert [each for each in states_of(worker, job_id) if each in FINISHED] == ["failed"]
    assert artifacts_of(worker, job_id, tmp_path) == []


def test_steps_are_counted_as_they_were_asked_for_whatever_the_engine_says(
    worker: Worker, model: str
) -> None:
    """The counters are the whole deployment's, and a sum that overflows could not be read."""
    job_id = submit(worker, model, "epochs=1")
    run_next(replace(worker, entry=f"{liars.__name__}:{liars.boasts_of_steps.__name__}"))
    assert row_of(worker, job_id).status == "succeeded"
    with worker.sessions() as session:
        assert counters.totals(session, counters.STEPS) == {"quantize": 1}
        (seconds,) = counters.totals(session, counters.STEP_SECONDS).values()
    assert seconds == 60 * Limits().running_minutes


def test_what_is_too_large_for_the_database_is_not_tried_for_ever(worker: Worker) -> None:
    def count() -> None:
        with worker.sessions.begin() as session:
            counters.add(session, "name", {liars.TOO_LONG: 1})

    with (
        Hold(lambda: False, every=60, stopping=threading.Event(), seconds=60) as hold,
        pytest.raises(OperationalError, match="index row"),
    ):
        hold.do(count)
