"""Which state of a training is kept."""

import math

import pytest

from app.domain.metrics import METRICS, Metric
from workers.compression.learning.choice import Choice, head_start
from workers.compression.learning.judging import Judgement


def state(
    loss: float, figure: float | None = None, samples: int = 100, metric: Metric = "top1"
) -> Judgement:
    if figure is None:
        return Judgement(loss, None, None, None, samples)
    return Judgement(loss, metric, METRICS[metric].kind, figure, samples)


def test_without_a_metric_the_least_loss_is_kept() -> None:
    choice = Choice()
    taken = [choice.takes(state(loss)) for loss in (1.0, 0.8, 0.9, 0.8, 0.7)]
    assert taken == [True, True, False, False, True]
    assert choice.loss == 0.7


def test_an_error_decides_to_the_last_digit() -> None:
    choice = Choice()
    assert choice.takes(state(1.0, 0.50, metric="mse"))
    assert not choice.takes(state(0.1, 0.51, metric="mse"))
    assert choice.takes(state(2.0, 0.49, metric="mse"))


def test_among_shares_that_chance_may_have_made_the_loss_decides() -> None:
    choice = Choice()
    assert choice.takes(state(0.47, 0.925, 480))
    assert choice.takes(state(0.30, 0.915, 480)), "one standard error is 0.012"
    assert not choice.takes(state(0.25, 0.90, 480))
    assert not choice.takes(state(0.31, 0.925, 480))


def test_states_are_near_to_the_highest_figure_and_not_to_one_another() -> None:
    """Else a state of small loss would lead to one a little worse, and that one to the next."""
    choice = Choice()
    assert choice.takes(state(0.50, 0.925, 480))
    assert choice.takes(state(0.40, 0.915, 480))
    assert not choice.takes(state(0.30, 0.906, 480)), "near to 0.915, not to 0.925"
    assert (choice.figure, choice.loss) == (0.915, 0.40)


def test_chance_is_smaller_among_more_samples() -> None:
    for samples, taken in ((480, True), (48_000, False)):
        choice = Choice()
        choice.takes(state(0.47, 0.925, samples))
        assert choice.takes(state(0.30, 0.915, samples)) is taken


def test_a_kept_state_that_is_left_behind_by_more_than_chance_goes() -> None:
    choice = Choice()
    assert choice.takes(state(0.2, 0.80, 1000))
    assert choice.takes(state(0.4, 0.90, 1000)), "better by far, though its loss is higher"
    assert choice.figure == 0.90


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_is_no_number_is_never_kept(loss: float) -> None:
    choice = Choice()
    assert not choice.takes(state(loss, 0.9))
    assert not choice.made
    assert choice.takes(state(5.0, 0.1)), "nor is it a bar to others"
    assert choice.made


def test_a_head_start_is_taken_off() -> None:
    for start, taken in ((0.0, False), (0.04, True)):
        choice = Choice()
        assert choice.takes(state(0.2, 0.93, 1000), start)
        assert choice.takes(state(0.3, 0.90, 1000)) is taken


def test_what_a_state_gains_on_samples_that_it_was_trained_on_is_its_head_start() -> None:
    known = state(0.1, 0.93, 400)
    assert math.isclose(head_start(known, state(0.2, 0.88, 1000)), 0.05)
    assert head_start(known, state(0.2, 0.92, 1000)) == 0, "chance"
    assert head_start(known, state(0.2, 0.96, 1000)) == 0


@pytest.mark.parametrize("metric", ["mse", "r2", "cer"])
@pytest.mark.parametrize("figures", [(0.1, 0.9), (0.9, 0.1)])
def test_only_shares_have_a_head_start(metric: Metric, figures: tuple[float, float]) -> None:
    one, other = (state(0.1, figure, 400, metric) for figure in figures)
    assert head_start(one, other) == 0
    assert head_start(state(0.1), state(0.2)) == 0


@pytest.mark.parametrize(("metric", "better", "worse"), [("cer", 0.1, 0.101), ("r2", 0.901, 0.9)])
def test_of_rates_less_is_better_and_of_scores_more_to_the_last_digit(
    metric: Metric, better: float, worse: float
) -> None:
    choice = Choice()
    assert choice.takes(state(1.0, worse, metric=metric))
    assert choice.takes(state(2.0, better, metric=metric))
    assert not choice.takes(state(0.1, worse, metric=metric))
