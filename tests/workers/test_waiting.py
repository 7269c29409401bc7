"""A log is never silent for long: it says where a run is, and that it goes slower than it began."""

from app.domain.events import Log, MetricValue, Progress
from workers.runs.waiting import Waiting


def test_a_silent_run_says_once_a_minute_where_it_is() -> None:
    now = [0.0]
    waiting = Waiting(lambda: now[0])
    now[0] = 70.0
    assert waiting.words() is None, "there is no stage yet"
    waiting.hear(Progress(progress=0.25, stage="step 1 of 2: quantize"))
    said = []
    for now[0] in range(71, 500):
        waiting.hear(MetricValue(step=0, name="loss", value=1.0))
        said.append((now[0], waiting.words()))
    told = [(at, log.message) for at, log in said if log]
    assert [at for at, _ in told] == [130, 190, 250, 310, 370, 430, 490]
    assert told[0][1] == "Still at it for 60 seconds: 25 % of the job is done."
    assert told[-1][1] == "Still at it for 7 minutes: 25 % of the job is done."


def test_whoever_speaks_is_not_interrupted() -> None:
    now = [0.0]
    waiting = Waiting(lambda: now[0])
    for at in range(0, 600, 50):
        now[0] = at
        spoken = Log(message="a layer") if at % 100 else Progress(progress=0, stage=f"part {at}")
        waiting.hear(spoken)
        assert waiting.words() is None


def test_a_run_that_slows_down_says_so_by_its_measured_pace() -> None:
    now = [0.0]
    waiting = Waiting(lambda: now[0])
    for now[0], progress, left in ((60.0, 0.2, 240.0), (180.0, 0.3, 420.0)):
        waiting.hear(Progress(progress=progress, stage="training", eta_seconds=left))
    now[0] = 240.0
    slow = waiting.words()
    assert slow is not None
    assert slow.message == (
        "Still at it for 3 minutes: 30 % of the job is done. It goes slower than it began, as on a"
        " busy machine: about 10 minutes in all, at first 5 minutes."
    )
    now[0] = 300.0
    waiting.hear(Progress(progress=0.9, stage="training", eta_seconds=30.0))
    steady = waiting.words()
    assert steady is not None
    assert "slower" not in steady.message, "it caught up"
    now[0] = 900.0
    late = waiting.words()
    assert late is not None
    assert "about 15 minutes in all" in late.message, "what was left has passed"


def test_the_time_that_is_left_counts_down_until_it_is_not_known() -> None:
    now = [0.0]
    waiting = Waiting(lambda: now[0])
    waiting.hear(Progress(progress=0.25, stage="step 1 of 2: quantize", eta_seconds=68.0))
    said = []
    for now[0] in range(1, 300):
        if (found := waiting.renewed()) is not None:
            said.append((now[0], found.progress, found.eta_seconds))
    assert said == [(30, 0.25, 38.0), (60, 0.25, 8.0), (90, 0.25, None)]
    waiting.hear(Progress(progress=0.3, stage="step 1 of 2: quantize", eta_seconds=500.0))
    now[0] += 30
    renewed = waiting.renewed()
    assert renewed is not None
    assert renewed.eta_seconds == 470.0
