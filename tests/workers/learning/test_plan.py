"""How many steps fit into a budget of minutes, on a clock that the test sets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.compression.learning.plan import Minutes, Pace, Plan
from workers.compression.learning.schedules import warm_up_cosine


class Clock:
    """Shows the seconds that were let pass."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds


def planned(most: int, epoch: int, step: float, judgement: float, left: float) -> int:
    """Return the steps that are planned after one, when steps take so many seconds."""
    clock = Clock()
    minutes = Minutes(left / 60, clock)
    plan = Plan(most, epoch, steps=Pace(step, 2), judgements=Pace(judgement, 2))
    plan.advance()
    plan.fit(minutes)
    return plan.total


def test_epochs_bound_the_steps_where_there_is_time() -> None:
    assert planned(most=100, epoch=10, step=1, judgement=0, left=1000) == 100
    assert planned(most=100, epoch=10, step=0, judgement=0, left=1) == 100


def test_minutes_bound_the_steps_where_there_are_epochs() -> None:
    assert planned(most=1000, epoch=10, step=1, judgement=0, left=50) == 51
    assert planned(most=1000, epoch=10, step=1, judgement=0, left=50.5) == 52, "the last runs over"


def test_a_step_costs_its_part_of_a_judgement_and_one_is_kept_in_reserve() -> None:
    assert planned(most=1000, epoch=10, step=1, judgement=10, left=110) == 1 + 50
    assert planned(most=1000, epoch=10, step=1, judgement=1000, left=110) == 1 + 1


@pytest.mark.parametrize(("judgements", "last"), [(1, 96), (2, 92)])
def test_time_is_kept_for_the_judgements_after_the_last_step(judgements: int, last: int) -> None:
    plan = Plan(1000, 1000, steps=Pace(1, 2), judgements=Pace(4, 2))
    plan.fit(Minutes(100 / 60, Clock()), judgements)
    assert plan.total == last
    if judgements == 1:
        plan.fit(Minutes(100 / 60, Clock()))
        assert plan.total == last, "one is what a training without a probe needs"


def test_nothing_is_planned_when_the_time_is_over() -> None:
    assert planned(most=1000, epoch=10, step=1, judgement=1, left=0.01) == 2
    clock = Clock()
    minutes = Minutes(1, clock)
    clock.pass_by(61)
    plan = Plan(10, 5, steps=Pace(1, 2))
    plan.advance()
    plan.fit(minutes)
    assert plan.over
    assert minutes.left == -1


def test_a_single_time_plans_nothing() -> None:
    """It may be a hundred times that of the second."""
    plan = Plan(1000, 10, steps=Pace(60, 1))
    plan.advance()
    plan.fit(Minutes(1, Clock()))
    assert plan.total == 1000


def test_the_first_time_counts_until_there_is_another() -> None:
    pace = Pace()
    pace.add(100)
    assert pace.seconds == 100
    pace.add(1)
    assert pace.seconds == 1
    pace.add(2)
    assert pace.seconds == 1.5


def test_a_pace_follows_what_changes() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.add(1)
    for _ in range(100):
        pace.add(2)
    assert 1.8 < pace.seconds < 2


def test_the_plan_grows_again_when_steps_get_faster() -> None:
    clock = Clock()
    minutes, plan, totals = Minutes(1, clock), Plan(10_000, 100), list[int]()
    for seconds in [1.0] * 10 + [0.1] * 100:
        clock.pass_by(seconds)
        plan.advance()
        plan.steps.add(seconds)
        plan.fit(minutes)
        totals.append(plan.total)
    assert totals[9] == 60
    assert totals[-1] > 300


def test_time_of_an_earlier_process_is_spent() -> None:
    minutes = Minutes(1, Clock())
    minutes.before = 45
    assert (minutes.spent, minutes.left) == (45, 15)


def test_a_plan_begins_anew_with_all_steps() -> None:
    plan = Plan(100, 10, total=5)
    for _ in range(5):
        plan.advance()
    assert plan.over
    plan.restart()
    assert (plan.step, plan.done, plan.total, plan.over) == (0, 0.0, 100, False)


def test_epochs_are_counted_from_one() -> None:
    plan, ends = Plan(6, 3), list[tuple[int, bool]]()
    for _ in range(6):
        plan.advance()
        ends.append((plan.epoch, plan.at_epoch_end))
    assert ends == [(1, False), (1, False), (1, True), (2, False), (2, False), (2, True)]


@given(
    step=st.floats(0.03, 5),
    judgement=st.floats(0, 3),
    epoch=st.integers(1, 500),
    noise=st.lists(st.floats(0.5, 2), min_size=1, max_size=20),
    judged=st.integers(1, 2),
)
@settings(max_examples=50)
def test_minutes_are_used_and_not_overrun(
    step: float, judgement: float, epoch: int, noise: list[float], judged: int
) -> None:
    """Whatever steps and judgements take, and however unevenly; rates never jump."""
    clock = Clock()
    minutes, longest, before = Minutes(1, clock), 0.0, 0.0
    plan = Plan(10**9, epoch, judgements=Pace(judgement, 1))
    while not (plan.over or minutes.left <= 0):
        seconds = step * noise[plan.step % len(noise)]
        longest = max(longest, seconds)
        clock.pass_by(seconds)
        left = plan.total - plan.step
        plan.advance()
        assert plan.done - before == pytest.approx((1 - before) / left)
        assert 0 < warm_up_cosine(before, plan.done) <= 1
        before = plan.done
        plan.steps.add(seconds)
        if plan.at_epoch_end:
            clock.pass_by(judgement)
            plan.judgements.add(judgement)
        plan.fit(minutes, judged)
    clock.pass_by((judged - plan.at_epoch_end) * judgement)
    assert minutes.spent >= 0.85 * minutes.limit
    assert minutes.spent <= minutes.limit + longest + judgement
    assert plan.done > 0.9 or longest + judgement > 1


@given(total=st.integers(1, 5000))
@settings(max_examples=50)
def test_with_time_enough_the_steps_part_the_training_evenly(total: int) -> None:
    plan = Plan(total, 7)
    for step in range(total):
        assert plan.done == pytest.approx(step / total)
        plan.advance()
    assert plan.done == 1.0
    assert plan.over
