"""The held-out samples are the same each time, fair to each class, and seen by no step."""

import numpy as np
import pytest

from app.domain.problems import InvalidDataset
from workers.compression.samples.split import split


@pytest.mark.parametrize("samples", [2, 3, 5, 10, 997])
def test_both_sides_are_disjoint_and_cover_all(samples: int) -> None:
    parts = split(samples, None, seed=1)
    together = np.sort(np.concatenate([parts.train, parts.held_out]))
    np.testing.assert_array_equal(together, np.arange(samples))
    assert len(parts.train)
    assert len(parts.held_out) == max(1, samples // 5)


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    first, again, other = (split(100, None, seed).held_out for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_class_keeps_its_share() -> None:
    targets = np.repeat([0, 1, 2], [50, 30, 120])
    held = split(200, targets, seed=0).held_out
    counts = np.bincount(targets[held])
    np.testing.assert_allclose(counts, [10, 6, 24], atol=1)


def test_one_sample_cannot_be_split() -> None:
    with pytest.raises(InvalidDataset, match="fewer than two"):
        split(1, None, seed=0)


@pytest.mark.parametrize(("share", "held"), [(0.001, 1), (0.5, 5), (0.999, 9), (1.0, 9)])
def test_at_least_one_sample_falls_on_each_side(share: float, held: int) -> None:
    assert len(split(10, None, seed=0, share=share).held_out) == held


def test_samples_are_held_out_from_everywhere() -> None:
    held = split(1000, None, seed=0).held_out
    assert np.histogram(held, bins=5, range=(0, 1000))[0].min() > 25
    assert (np.diff(held) > 0).all()


def test_targets_that_are_no_classes_change_nothing() -> None:
    plain = split(60, None, seed=3).held_out
    numbers, boxes = np.linspace(0, 1, 60), np.arange(120).reshape(60, 2)
    for targets in (numbers, boxes):
        np.testing.assert_array_equal(split(60, targets, seed=3).held_out, plain)
    answers = np.arange(60) < 30
    assert answers[split(60, answers, seed=3).held_out].sum() == 6
