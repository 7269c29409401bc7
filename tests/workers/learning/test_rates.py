"""How the learning rate is found where none is given."""

import math

import pytest

from workers.compression.learning.rates import best, boldest, largest


def test_the_usual_rate_is_taken_where_a_trial_bears_it() -> None:
    """A trial is too short to see a larger rate repair what it broke: smaller ones look better."""
    after = {1e-3: 0.80, 3.2e-4: 0.38, 1e-4: 0.36}
    assert largest("adamw", 0.45, lambda rate: _nearest(after, rate)) == 1e-3


def test_a_larger_rate_is_taken_where_it_helps_at_once() -> None:
    after = {3e-2: 2.0, 9.5e-2: 1.5, 0.3: 1.6}
    found = largest("sgd", 2.3, lambda rate: _nearest(after, rate))
    assert found == pytest.approx(9.5e-2, rel=0.01)


def test_a_rate_that_breaks_the_model_is_not_taken() -> None:
    after = {1e-3: math.inf, 3.2e-4: 5.0, 1e-4: 0.9}
    found = largest("adamw", 0.5, lambda rate: _nearest(after, rate))
    assert found == pytest.approx(1e-4)


def test_trials_come_to_an_end() -> None:
    rates = list[float]()

    def broken(rate: float) -> float:
        rates.append(rate)
        return math.inf

    found = largest("adamw", 0.5, broken)
    assert found == min(rates)
    assert len(rates) <= 6


def _nearest(losses: dict[float, float], rate: float) -> float:
    known = min(losses, key=lambda each: abs(math.log(each / rate)))
    assert known == pytest.approx(rate, rel=0.05)
    return losses[known]


@pytest.mark.parametrize("wanted", [1e-5, 1e-4, 1e-3, 1e-2, 0.1])
def test_a_training_that_is_tried_as_a_whole_gets_the_rate_that_ends_best(wanted: float) -> None:
    tried = list[float]()

    def loss(rate: float) -> float:
        tried.append(rate)
        return abs(math.log(rate / wanted))

    assert best("adamw", loss) == pytest.approx(wanted)
    assert len(tried) <= 8
    assert len({round(math.log10(rate), 3) for rate in tried}) == len(tried), "none twice"


def test_a_whole_training_that_goes_astray_at_every_rate_is_tried_a_few_times() -> None:
    assert best("sgd", lambda _rate: math.inf) == pytest.approx(3e-2)


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        ({1e-2: 0.49, 3.2e-3: 0.35, 1e-3: 0.36}, 1e-2),
        ({1e-2: 0.50, 3.2e-3: 0.35, 1e-3: 0.36}, 1e-2),
        ({1e-2: 0.51, 3.2e-3: 0.49, 1e-3: 0.36}, 3.2e-3),
        ({1e-2: math.inf, 3.2e-3: 0.6, 1e-3: 0.45}, 1e-3),
        ({1e-2: math.inf, 3.2e-3: math.inf, 1e-3: 2.0, 3.2e-4: 0.6}, 3.2e-4),
    ],
)
def test_the_boldest_rate_is_taken_that_comes_back_from_what_it_breaks(
    after: dict[float, float], wanted: float
) -> None:
    found = boldest("adamw", 0.5, lambda rate: _nearest(after, rate))
    assert found == pytest.approx(wanted, rel=0.02)
