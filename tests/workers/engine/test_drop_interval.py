"""The interval of a drop: it holds the true drop about as often as it says."""

import numpy as np
import pytest

from workers.compression.measure.drop_interval import drop_interval

SAMPLES = 160
TRIES = 300


def _counts(right: np.ndarray, answers: int = 1) -> np.ndarray:
    return np.stack([right, np.full(len(right), answers)], axis=1).astype(float)


@pytest.mark.parametrize(("changed_for_worse", "changed_for_better"), [(0.03, 0.01), (0.1, 0.1)])
def test_it_holds_the_true_drop_of_pairs_of_answers(
    changed_for_worse: float, changed_for_better: float
) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(TRIES):
        change = rng.choice(
            [0, 1, -1],
            SAMPLES,
            p=[1 - changed_for_worse - changed_for_better, changed_for_worse, changed_for_better],
        )
        before = np.where(change == 1, 1, np.where(change == -1, 0, rng.random(SAMPLES) < 0.9))
        found = drop_interval("share", _counts(before), _counts(before - change))
        assert found is not None
        held += found.low <= changed_for_worse - changed_for_better <= found.high
    assert 0.92 <= held / TRIES <= 0.99


def test_answers_of_one_sample_are_no_evidence_of_their_own() -> None:
    """Frames of one recording, or letters of one line, are right or wrong together."""
    rng = np.random.default_rng(0)
    held, answers, drop = 0, 50, 0.02
    for _ in range(TRIES):
        wrong = rng.choice([0, answers // 2], SAMPLES, p=[1 - 2 * drop, 2 * drop])
        none = np.zeros(SAMPLES)
        found = drop_interval("rate", _counts(none, answers), _counts(wrong, answers))
        if found is not None:
            held += found.low <= drop <= found.high
    assert 0.85 <= held / TRIES <= 0.99, "few samples are wrong at all, so it is a little narrow"


def test_few_samples_without_a_change_do_not_prove_that_there_is_none() -> None:
    same = _counts(np.ones(20))
    few, many = (
        drop_interval("share", same, same),
        drop_interval("share", *[_counts(np.ones(2000))] * 2),
    )
    assert few is not None
    assert many is not None
    assert few.low == -few.high
    assert few.high > 0.05
    assert many.high < 0.005


def test_what_cannot_be_told_is_none() -> None:
    assert drop_interval("share", _counts(np.ones(3), 0), _counts(np.ones(3), 0)) is None
    lines = _counts(np.array([1.0, 2.0]), 20)
    assert drop_interval("rate", lines, lines * [2, 1]) is None, "two samples"
    alike = _counts(np.full(30, 5.0), 20)
    assert drop_interval("rate", alike, alike) is None, "nothing varies"


def test_no_more_than_all_answers_are_lost() -> None:
    right, wrong = _counts(np.ones(8)), _counts(np.zeros(8))
    lost, gained = drop_interval("share", right, wrong), drop_interval("share", wrong, right)
    assert lost is not None
    assert gained is not None
    assert 0 < lost.low < lost.high == 1
    assert (gained.low, gained.high) == (-1, -lost.low)


def test_of_errors_less_is_better() -> None:
    rng = np.random.default_rng(0)
    before, after = (_counts(rng.poisson(mean, 500), 20) for mean in (1, 3))
    worse, better = drop_interval("rate", before, after), drop_interval("rate", after, before)
    assert worse is not None
    assert better is not None
    drop = (after - before)[:, 0].sum() / after[:, 1].sum()
    assert (worse.low + worse.high) / 2 == pytest.approx(drop, abs=1e-6)
    assert worse.low > 0.07, "it is no chance"
    assert (better.low, better.high) == (-worse.high, -worse.low)
