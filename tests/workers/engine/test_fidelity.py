"""Fidelity means what the contract says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from workers.compression.measure.fidelity import Closeness, Profile, sqnr_db

ANY = arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=4))


def closeness_to(*originals: np.ndarray, name: str = "out") -> Closeness:
    """Compare with an output that is like these."""
    profile = Profile()
    for original in originals:
        profile.add(original)
    return Closeness(name, profile)


@given(ANY)
def test_equal_outputs_agree_wholly_and_have_no_noise(output: np.ndarray) -> None:
    closeness = closeness_to(output)
    closeness.add({"out": output}, {"out": output.copy()})
    assert closeness.value.agreement == 1.0
    assert closeness.value.sqnr_db is None


def test_class_scores_agree_when_the_arg_max_does() -> None:
    original = np.array([[0.1, 0.9]], np.float32)
    closeness = closeness_to(original)
    for given_ in ([[0.4, 0.5]], [[0.6, 0.5]]):
        closeness.add({"out": original}, {"out": np.array(given_, np.float32)})
    assert closeness.value.agreement == 0.5


def test_probabilities_of_a_sequence_agree_position_by_position() -> None:
    """Most elements of 4,000 classes are near 0 whatever is answered: they say nothing."""
    original = np.full((1, 4, 4000), 0.1 / 3999, np.float32)
    original[0, :, 7] = 0.9
    given_ = original.copy()
    given_[0, 0] = np.roll(original[0, 0], 1)
    for axis in (2, 1):
        wanted, found = (np.moveaxis(each, 2, axis) for each in (original, given_))
        closeness = closeness_to(wanted)
        closeness.add({"out": wanted}, {"out": found})
        assert closeness.value.agreement == 0.75


def test_other_outputs_agree_within_one_percent_of_the_originals_range() -> None:
    original = np.linspace(0, 10, 100, dtype=np.float32).reshape(1, 10, 10)
    closeness = closeness_to(original)
    off = original.copy()
    off[0, :5] += 0.09
    off[0, 5:] += 0.11
    closeness.add({"out": original}, {"out": off})
    assert closeness.value.agreement == 0.5


def test_noise_is_counted_over_all_outputs() -> None:
    ones = np.ones((1, 4), np.float32)
    closeness = closeness_to(ones, name="a")
    closeness.add({"a": ones, "b": ones}, {"a": ones, "b": ones * np.float32(0.9)})
    assert closeness.value.sqnr_db == pytest.approx(10 * np.log10(8 / (4 * 0.01)), abs=0.01)


def test_outputs_besides_the_judged_one_are_told_one_by_one() -> None:
    samples = np.random.default_rng(0).normal(size=(20, 1, 4)).astype(np.float32)
    closeness = closeness_to(*samples, name="judged")
    for values in samples:
        original = dict.fromkeys(("judged", "kept", "lost", "flat"), values)
        original["flat"] = np.ones_like(values)
        closeness.add(original, {**original, "lost": values * 0})
    assert [each.output for each in closeness.value.beside or ()] == ["lost", "kept"]
    assert [round(each.explained, 1) for each in closeness.value.beside or ()] == [0, 1]


def test_an_answer_that_is_not_a_number_is_an_error() -> None:
    ones = np.ones((1, 4, 4), np.float32)
    closeness = closeness_to(ones)
    closeness.add({"out": ones}, {"out": ones * np.nan})
    assert closeness.value.agreement == 0
    assert closeness.value.sqnr_db == 0


def agreement(original: np.ndarray, given_: np.ndarray) -> float:
    closeness = closeness_to(original)
    closeness.add({"out": original}, {"out": given_})
    return closeness.value.agreement


def test_labels_and_words_agree_where_they_are_equal() -> None:
    """The class 5 is no nearer to the class 2 than any other is."""
    classes = np.array([[3, 1, 2, 900]])
    assert agreement(classes, np.array([[3, 1, 5, 700]])) == 0.5
    assert agreement(classes.astype(np.int32), np.array([[3, 1, 2, 901]], np.int32)) == 0.75
    assert agreement(np.array([["a", "b"]], object), np.array([["a", "c"]], object)) == 0.5
    flags = np.array([[True, False, True, True]])
    assert agreement(flags, ~flags) == 0.0


def test_small_integers_are_pixels_that_agree_within_one_percent() -> None:
    picture = np.arange(200, dtype=np.uint8).reshape(1, 10, 20, 1)
    assert agreement(picture, picture + np.uint8(1)) == 1.0
    assert agreement(picture, picture + np.uint8(2)) == 0.0


@pytest.mark.parametrize(
    ("output", "bounded"),
    [
        (np.array([[0.1, 0.9]], np.float32), "agreement"),
        (np.array([7]), "agreement"),
        (np.array([[7, 3]], np.int32), "agreement"),
        (np.array([["yes"]], object), "agreement"),
        (np.array([[True]]), "agreement"),
        (np.zeros((1, 8, 8, 3), np.uint8), "explained"),
        (np.zeros((1, 1), np.float32), "explained"),
    ],
)
def test_answers_are_bounded_by_their_agreement_and_numbers_by_their_variance(
    output: np.ndarray, bounded: str
) -> None:
    other = (
        ~output if output.dtype == bool else output[..., ::-1] if output.size > 1 else output * 2
    )
    closeness = closeness_to(output, other)
    closeness.add({"out": output}, {"out": output})
    assert closeness.value.bounded == bounded


@pytest.mark.parametrize(("odd", "bounded"), [(0, "explained"), (1, "explained"), (3, "agreement")])
@pytest.mark.parametrize("kind", ["scores", "probabilities", "labels", "words"])
def test_answers_that_hardly_vary_do_not_lead(kind: str, odd: int, bounded: str) -> None:
    """Of twenty samples as many have another answer; one that always gives the same misses them."""
    first = {
        "scores": np.array([[3.0, -1.0, 0.0]], np.float32),
        "probabilities": np.array([[[0.7, 0.2, 0.1]]], np.float32),
        "labels": np.array([5]),
        "words": np.array([["yes"]], object),
    }[kind]
    second = first[..., ::-1] if first.size > 1 else first * 2
    originals = [second] * odd + [first] * (20 - odd)
    closeness = closeness_to(*originals)
    for original in originals:
        closeness.add({"out": original}, {"out": first})
    found = closeness.value
    assert found.bounded == bounded
    assert found.commonest == found.agreement == pytest.approx(1 - odd / 20)


def test_of_very_many_answers_the_commonest_is_still_counted() -> None:
    rare = np.arange(1, 100_001)
    often = np.zeros(300_000, np.int64)
    closeness = closeness_to(np.append(often, rare), np.append(often, -rare))
    assert closeness.value.commonest == pytest.approx(0.75)


def test_numbers_have_no_commonest_answer() -> None:
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    closeness = closeness_to(picture)
    closeness.add({"out": picture}, {"out": picture})
    assert closeness.value.commonest is None


def test_the_noise_of_weights_is_in_decibels_and_none_is_null() -> None:
    ones = np.ones((3, 4), np.float32)
    assert sqnr_db(ones, ones.copy()) is None
    assert sqnr_db(ones, ones * np.float32(1.1)) == pytest.approx(20, abs=0.01)
    assert sqnr_db(ones, -ones) == pytest.approx(-6.02, abs=0.01)


def test_one_percent_is_of_the_span_and_not_of_the_largest_value() -> None:
    """Temperatures in kelvin vary by tens about three hundred; far from zero, all else is near."""
    original = np.linspace(290, 310, 20, dtype=np.float32).reshape(1, 1, 20, 1)
    closeness = closeness_to(original)
    closeness.add({"out": original}, {"out": original + np.float32(0.5)})
    assert closeness.value.agreement == 0
    closeness.add({"out": original}, {"out": original + np.float32(0.1)})
    assert closeness.value.agreement == 0.5


def test_what_is_finite_on_one_side_alone_agrees_with_nothing() -> None:
    original = np.array([[[[1.0], [np.inf], [np.nan], [-2.0]]]], np.float32)
    actual = np.array([[[[np.inf], [1.0], [-2.0], [np.nan]]]], np.float32)
    closeness = closeness_to(original)
    closeness.add({"out": original}, {"out": actual})
    assert closeness.value.agreement == 0
