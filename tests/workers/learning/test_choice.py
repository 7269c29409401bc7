"""Which state of a training is kept."""

import math

from app.domain.reports import Quality
from workers.compression.learning.choice import Choice, head_start


def test_without_a_metric_the_least_loss_is_kept() -> None:
    choice = Choice()
    assert [choice.takes(loss, None, 100) for loss in (1.0, 0.8, 0.9, 0.7)] == [
        True,
        True,
        False,
        True,
    ]
    assert choice.loss == 0.7


def test_an_error_decides_to_the_last_digit() -> None:
    choice = Choice()
    assert choice.takes(1.0, ("error", 0.50), 100)
    assert not choice.takes(0.1, ("error", 0.51), 100)


def test_among_shares_that_chance_may_have_made_the_loss_decides() -> None:
    choice = Choice()
    assert choice.takes(0.47, ("share", 0.925), 480)
    assert choice.takes(0.30, ("share", 0.915), 480), "one standard error is 0.012"
    assert not choice.takes(0.25, ("share", 0.90), 480)
    assert not choice.takes(0.31, ("share", 0.925), 480)


def test_a_kept_state_that_is_left_behind_by_more_than_chance_goes() -> None:
    choice = Choice()
    assert choice.takes(0.2, ("share", 0.80), 1000)
    assert choice.takes(0.4, ("share", 0.90), 1000), "better by far, though its loss is higher"
    assert choice.figure == 0.90


def test_what_is_no_number_is_never_kept() -> None:
    choice = Choice()
    assert not choice.takes(math.nan, ("share", 0.5), 10)
    assert not choice.takes(math.inf, None, 10)
    assert not choice.made


def test_what_a_model_knows_by_heart_is_taken_off() -> None:
    known = Quality(metric="top1", value=0.93, samples=400)
    gap = head_start(known, Quality(metric="top1", value=0.88, samples=1000))
    assert math.isclose(gap, 0.05)
    assert head_start(known, Quality(metric="top1", value=0.92, samples=1000)) == 0, "chance"
    assert head_start(known, Quality(metric="top1", value=0.96, samples=1000)) == 0
    error = Quality(metric="mse", value=0.1, samples=400)
    assert head_start(error, Quality(metric="mse", value=9.0, samples=400)) == 0
