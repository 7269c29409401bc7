"""The time that is left of a run: what comes after the steps is expected, not paced."""

import json
from pathlib import Path

import pytest

from workers.compression.events import Events


class _Run:
    """The events of a run whose clock a test turns."""

    def __init__(self, path: Path) -> None:
        self.now = 100.0
        self._path = path / "events.jsonl"
        self.events = Events(self._path, clock=lambda: self.now)

    @property
    def left(self) -> float | None:
        """What the last event said is left."""
        found: float | None = json.loads(self._path.read_text().splitlines()[-1])["eta_seconds"]
        return found


@pytest.fixture
def run(tmp_path: Path) -> _Run:
    return _Run(tmp_path)


def test_short_steps_promise_no_short_run(run: _Run) -> None:
    run.events.expect(0.6, 20)
    run.now += 1
    run.events.progress(0.3, "step 1 of 1")
    assert run.left == pytest.approx(1 + 20), "as much again of the steps, then all the rest"
    run.now += 1
    run.events.progress(0.6, "measuring")
    assert run.left == pytest.approx(20)
    run.now += 15
    run.events.progress(0.7, "evaluating")
    assert run.left == pytest.approx(5)
    run.now += 1
    run.events.progress(1.0, "done")
    assert run.left == 0


def test_long_steps_are_paced(run: _Run) -> None:
    run.events.expect(0.6, 20)
    advance = run.events.span(0.05, 0.6, "step 1 of 1")
    run.now += 600
    advance(0.5)
    assert run.left == pytest.approx(600 * (0.6 - 0.325) / 0.325 + 20, abs=0.1)


def test_a_last_part_that_is_slower_than_expected_is_paced(run: _Run) -> None:
    run.events.expect(0.6, 20)
    run.events.progress(0.6, "measuring")
    run.now += 10
    advance = run.events.span(0.7, 0.9, "evaluating")
    run.now += 30
    advance(0.5)
    assert run.left == pytest.approx(30), "half of the part took that long"


def test_what_takes_longer_than_expected_without_a_pace_is_not_known(run: _Run) -> None:
    run.events.expect(0.6, 20)
    run.events.progress(0.6, "measuring")
    run.now += 30
    run.events.progress(0.7, "evaluating")
    assert run.left is None


def test_a_run_of_which_nothing_is_expected_is_paced_to_its_end(run: _Run) -> None:
    run.events.progress(0.01, "reading")
    assert run.left is None
    run.now += 10
    run.events.progress(0.5, "layer 5 of 10")
    assert run.left == pytest.approx(10)


def test_what_comes_before_the_steps_says_nothing_of_them(run: _Run) -> None:
    """Samples may take minutes to be made, or be there already: the steps are the same."""
    run.events.expect(0.6, 20)
    run.events.pace_from(0.3)
    advance = run.events.span(0.03, 0.3, "making samples")
    run.now += 150
    advance(0.9)
    assert run.left is None
    run.now += 30
    advance = run.events.span(0.3, 0.6, "step 1 of 1")
    assert run.left is None
    run.now += 10
    advance(0.5)
    assert run.left == pytest.approx(10 + 20)


def test_while_samples_are_made_the_steps_are_forecast(run: _Run) -> None:
    run.events.expect(0.6, 20, before=60)
    run.events.pace_from(0.3)
    run.events.progress(0.01, "reading the model")
    assert run.left is None, "how long the samples take is not known yet"
    advance = run.events.span(0.03, 0.3, "making samples", 90)
    assert run.left == pytest.approx(90 + 60 + 20)
    run.now += 40
    advance(0.5)
    assert run.left == pytest.approx(40 + 60 + 20), "as much again of the samples, then the rest"
    run.now += 40
    advance = run.events.span(0.3, 0.6, "step 1 of 1")
    assert run.left == pytest.approx(60 + 20)
    run.now += 15
    advance(0.5)
    assert run.left == pytest.approx(15 + 20), "the pace is known, and counts"


def test_a_step_that_goes_on_in_its_middle_is_paced_from_there(run: _Run) -> None:
    """What an earlier run had done of it is there at once, and says nothing of the rest."""
    run.events.expect(0.6, 20)
    run.events.pace_from(0.1)
    advance = run.events.span(0.1, 0.6, "step 1 of 1")
    run.now += 5
    run.events.pace_anew()
    run.now += 1
    advance(0.6)
    assert run.left is None, "how fast the rest goes is not known yet"
    run.now += 60
    advance(0.8)
    assert run.left == pytest.approx(60 + 20)
