"""How much of the variance is kept, and which axis counts the channels that have units."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from workers.compression.measure.explained import Explained
from workers.compression.measure.fidelity import Closeness, Nearness, Profile
from workers.compression.samples.channels import channel_variances, channels_of

Floats = np.ndarray[Any, np.dtype[Any]]
SEEDS = st.integers(0, 2**32 - 1)


def compared(wanted: Floats, given_: Floats) -> Explained:
    """Compare arrays sample by sample."""
    explained = Explained()
    for one, other in zip(wanted, given_, strict=True):
        explained.add(one[None], other[None])
    return explained


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def channel_axis(values: Floats) -> int | None:
    return channels_of(values)[0]


def by_hand(wanted: Floats, given_: Floats, axis: int) -> list[float]:
    """Return 1 − error power over variance, for each channel along an axis of all samples."""
    pairs = zip(np.moveaxis(wanted, axis, 0), np.moveaxis(given_, axis, 0), strict=True)
    return [float(1 - np.mean((a - b) ** 2) / np.var(a)) for a, b in pairs]


@given(SEEDS, st.integers(2, 30), st.integers(1, 5))
def test_a_vector_has_a_channel_for_each_number(seed: int, samples: int, size: int) -> None:
    wanted = random(samples, size, seed=seed) * np.logspace(0, 5, size) + 1000
    noisy = wanted + random(samples, size, seed=seed + 1) * np.logspace(0, 4, size)
    assume((wanted.std(0) > 1e-5 * np.abs(wanted).max(0)).all())  # less than that is rounding
    found = compared(wanted, noisy)
    assert found.value == pytest.approx(r2_score(wanted, noisy))
    worst = by_hand(wanted, noisy, 1)
    assert found.worst is not None
    assert found.worst.channel == np.argmin(worst)
    assert found.worst.explained == pytest.approx(min(worst))


LAYOUTS = [
    ((6,), 1), ((1,), 1), ((6, 8, 8), 1), ((8, 8, 6), 3), ((6, 12, 20), 1), ((12, 20, 6), 3),
    ((2, 8, 8, 7), 4), ((3, 4, 8, 8), 1), ((40, 5), 2), ((5, 60), 1), ((8, 32), 2), ((5, 1, 1), 1),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
def test_channels_lie_where_convention_has_them(shape: tuple[int, ...], axis: int) -> None:
    wanted, noise = random(5, *shape), random(5, *shape, seed=1)
    sizes = np.linspace(0.1, 0.9, wanted.shape[axis]).reshape([-1] + [1] * (wanted.ndim - axis - 1))
    noisy = wanted + noise * sizes
    found, shares = compared(wanted, noisy), by_hand(wanted, noisy, axis)
    assert found.value == pytest.approx(np.mean(shares))
    assert found.worst is not None
    assert found.worst.channel == np.argmin(shares)
    assert found.worst.explained == pytest.approx(min(shares))
    assert channel_axis(wanted) == axis


@pytest.mark.parametrize(("shape", "axis"), [((3, 8, 12, 7), 4), ((12, 97), 2), ((96, 12), 1)])
def test_units_decide_where_convention_is_wrong(shape: tuple[int, ...], axis: int) -> None:
    wanted = random(4, *shape)
    places = np.indices(wanted.shape)[axis]
    wanted = wanted * np.where(places < 4, 300.0, 0.01) + np.where(places < 4, 100.0, 0)
    noisy = np.where(places == 5, random(*wanted.shape, seed=1) * 0.01, wanted)
    found = compared(wanted, noisy)
    assert channel_axis(wanted) == axis
    assert found.worst is not None
    assert found.worst.channel == 5
    assert found.value == pytest.approx(np.mean(by_hand(wanted, noisy, axis)))


def test_edges_of_a_mask_are_no_units() -> None:
    """In the middle of the picture something is seen, and nothing ever happens at its sides."""
    wanted = random(9, 2, 24, 36) * 1e-4
    wanted[..., 12:24] += np.abs(random(9, 2, 24, 12, seed=1))
    assert channel_axis(wanted) == 1


@given(SEEDS, st.sampled_from([(1,), (3,), (6, 9)]))
@settings(max_examples=30)
def test_of_labels_it_is_the_share_of_equal_ones_whatever_their_numbers(
    seed: int, shape: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(seed)
    names = generator.permutation(1000)[:4]
    wanted, given_ = generator.integers(0, 4, (2, 40, *shape))
    found = compared(names[wanted], names[given_])
    assert found.value == pytest.approx((wanted == given_).mean())
    words = np.array(["hot", "cold", "wet", "dry"], object)
    assert compared(words[wanted], words[given_]).value == found.value
    assert compared(names[wanted], names[wanted]).value == 1.0


def test_labels_beside_numbers_count_as_an_output_and_small_integers_are_numbers() -> None:
    labels, numbers = np.arange(40).reshape(40, 1), random(40, 1)
    nearness = Nearness()
    for row in range(40):
        wanted = {"label": labels[row : row + 1], "number": numbers[row : row + 1]}
        wrong = labels[row : row + 1] + (row % 4 == 0)
        nearness.add(wanted, {"label": wrong, "number": wanted["number"]})
    assert nearness.explained == pytest.approx((0.75 + 1) / 2)
    pixels = labels.astype(np.uint8)
    assert (compared(pixels, pixels + np.uint8(1)).value or 0) > 0.99


def test_a_picture_without_an_axis_for_channels_is_one_channel() -> None:
    wanted = random(4, 9, 9) * 1e-3
    wanted[:, 3:6] += random(4, 3, 9)
    found = compared(wanted, wanted * 0.5)
    assert found.worst is not None
    assert found.worst.channel is None


def test_samples_along_the_second_axis_do_not_hide_the_channels() -> None:
    wanted = random(20, 1, 37)
    noisy = wanted.copy()
    noisy[..., 9] = random(20, 1, seed=3)
    explained = Explained()
    explained.add(wanted, noisy)
    assert explained.worst is not None
    assert explained.worst.channel == 9
    assert explained.worst.others == 1.0


@given(SEEDS, st.sampled_from([(3,), (3, 4, 4), (20, 3), (4,)]))
@settings(max_examples=40)
def test_units_do_not_matter(seed: int, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(seed)
    wanted, noise = generator.standard_normal((2, 6, *shape))
    axis = channel_axis(wanted)
    assert axis is not None
    form = [-1 if place == axis else 1 for place in range(wanted.ndim)]
    unit, zero = (generator.uniform(0.5, 1.5, wanted.shape[axis]).reshape(form) for _ in range(2))
    plain = compared(wanted, wanted + noise).value
    assert compared(wanted * unit + zero, (wanted + noise) * unit + zero).value == pytest.approx(
        plain
    )


@given(SEEDS)
def test_the_order_of_samples_does_not_matter(seed: int) -> None:
    wanted, noise = random(2, 9, 4, 3, 3, seed=seed)
    order = np.random.default_rng(seed).permutation(9)
    one, other = compared(wanted, wanted + noise), compared(wanted[order], (wanted + noise)[order])
    assert one.value == pytest.approx(other.value)


@given(seed=SEEDS, parts=st.integers(2, 5), ragged=st.booleans())
@settings(max_examples=20)
def test_parts_together_are_the_whole(seed: int, parts: int, ragged: bool) -> None:
    """Parts are merged as if their samples had been added to one."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 7, 12) if ragged else [4] * 12
    pairs = [(rng.standard_normal((1, n, 3)), rng.standard_normal((1, n, 3))) for n in lengths]
    whole, merged = Nearness(), Nearness()
    groups = [Nearness() for _ in range(parts)]
    for index, (wanted, found) in enumerate(pairs):
        for each in (whole, groups[index % parts]):
            each.add({"y": wanted}, {"y": found})
    for group in groups:
        merged.merge(group)
    assert merged.explained == pytest.approx(whole.explained, abs=1e-9)
    assert merged.sqnr_db == whole.sqnr_db


@pytest.mark.parametrize(("factor", "kept"), [(1.0, 1.0), (0.0, 0.0), (-1.0, -3.0), (0.5, 0.75)])
def test_equal_is_1_the_mean_is_0_and_noise_is_below(factor: float, kept: float) -> None:
    wanted = random(50, 3)
    wanted -= wanted.mean(0)
    assert compared(wanted, wanted * factor).value == pytest.approx(kept)


def test_a_channel_that_does_not_vary_has_no_part_in_it() -> None:
    wanted = random(30, 3)
    wanted[:, 1] = 7.25
    noisy = wanted + 0.5 * random(30, 3, seed=1)
    shares = by_hand(wanted[:, [0, 2]], noisy[:, [0, 2]], 1)
    assert compared(wanted, noisy).value == pytest.approx(np.mean(shares))


@given(SEEDS, st.integers(4, 12))
@settings(max_examples=20)
def test_what_rounding_alone_changes_does_not_vary(seed: int, samples: int) -> None:
    """Sums of the same numbers, added in another order for each sample."""
    generator = np.random.default_rng(seed)
    terms = generator.exponential(size=(2, 8192)).astype(np.float32)
    sums = [generator.permuted(terms, axis=1).cumsum(1)[:, -1] for _ in range(samples)]
    wanted = np.stack(sums) * np.array([1, -1e-3], np.float32)
    noisy = wanted * np.float32(1.003)
    assert compared(wanted, noisy).value is None
    found = nearness({"y": wanted}, {"y": noisy})
    assert found.explained == pytest.approx(1 - 0.003**2, abs=1e-6)
    varying = wanted + np.abs(wanted) * 2e-5 * random(samples, 2, seed=seed)
    assume((varying.std(0) > 5e-6 * np.abs(wanted).max(0)).all())
    assert compared(varying, noisy).value is not None


def test_no_digits_are_lost_far_from_zero() -> None:
    wanted = random(40, 2) + 1e5
    noisy = wanted + 0.1 * random(40, 2, seed=1)
    assert compared(wanted, noisy).value == pytest.approx(np.mean(by_hand(wanted, noisy, 1)))


def test_one_sample_of_a_vector_is_one_channel() -> None:
    wanted = random(1, 40)
    noisy = wanted + 0.3 * random(1, 40, seed=1)
    found = compared(wanted, noisy)
    assert found.value == pytest.approx(1 - np.mean((wanted - noisy) ** 2) / np.var(wanted))
    assert found.worst is not None
    assert found.worst.channel is None


def test_a_length_that_changes_is_no_channel() -> None:
    generator = np.random.default_rng(0)
    explained, whole = Explained(), []
    for length in (12, 7, 30):
        wanted = generator.standard_normal((1, length, 5))
        noisy = wanted + generator.standard_normal((1, length, 5)) * np.linspace(0.1, 1, 5)
        explained.add(wanted, noisy)
        whole.append((wanted[0], noisy[0]))
    wanted, noisy = (np.concatenate(each) for each in zip(*whole, strict=True))
    assert explained.value == pytest.approx(np.mean(by_hand(wanted, noisy, 1)))


def test_arrays_without_two_dimensions_are_one_channel() -> None:
    explained = Explained()
    wanted, noisy = random(9), random(9, seed=1)
    for one, other in zip(wanted, noisy, strict=True):
        explained.add(np.array(one), np.array(other))
    assert explained.value == pytest.approx(1 - np.mean((wanted - noisy) ** 2) / np.var(wanted))


# ------------------------------------------------------------- what is no number


@pytest.mark.parametrize("kind", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_right_where_it_is_the_same(kind: float) -> None:
    wanted = random(20, 4, 6)
    noisy = wanted + 0.2 * random(20, 4, 6, seed=1)
    plain = compared(wanted[:, :3], noisy[:, :3]).value
    wanted[:, 3], noisy[:, 3] = kind, kind
    assert compared(wanted, noisy).value == pytest.approx(plain)


@pytest.mark.parametrize("kind", [np.nan, np.inf])
def test_each_miss_costs_what_the_mean_would(kind: float) -> None:
    wanted = random(50, 1)
    spoiled = wanted.copy()
    spoiled[:10] = kind
    assert compared(wanted, spoiled).value == pytest.approx(0.8)
    assert compared(spoiled, wanted).value == pytest.approx(0.8)
    assert compared(spoiled, spoiled).value == 1.0


def test_one_kind_of_no_number_is_not_another() -> None:
    wanted, given_ = random(4, 1), random(4, 1)
    wanted[:2], given_[:2] = np.inf, -np.inf
    assert compared(wanted, given_).value == pytest.approx(0.5)
    given_[:2] = np.nan
    assert compared(wanted, given_).value == pytest.approx(0.5)


def test_a_miss_is_seen_where_nothing_varies() -> None:
    wanted = np.full((4, 2), np.nan)
    wanted[:, 0] = random(4)
    given_ = wanted.copy()
    given_[0, 1] = 3.0
    assert compared(wanted, given_).value == pytest.approx((1 + 0.75) / 2)


def test_another_shape_is_a_miss_everywhere() -> None:
    wanted = random(5, 6)
    wanted[0, 0] = np.nan
    explained = Explained()
    for one in wanted:
        explained.add(one[None], one[None, :3])
    assert explained.value == pytest.approx(0)


def test_agreement_and_noise_know_what_is_no_number() -> None:
    original = np.linspace(-1, 1, 40).reshape(4, 1, 10, 1).astype(np.float32)
    original[0, 0, :2], original[1, 0, 0, 0] = np.nan, -np.inf
    given_ = original.copy()
    same = fidelity_of(original, given_)
    assert (same.agreement, same.sqnr_db, same.explained) == (1.0, None, 1.0)
    given_[0, 0, 0], given_[3, 0, :3] = 0.0, np.nan
    found = fidelity_of(original, given_)
    assert found.agreement == pytest.approx(1 - 4 / 40)
    assert found.sqnr_db == pytest.approx(10 * np.log10(37 / 4), abs=0.01)
    assert found.explained is not None
    assert 0 < found.explained < 1


def test_scores_beside_padding_are_still_scores() -> None:
    """Rows of padding are NaN in what a transformer gives."""
    scores = np.abs(random(6, 1, 5, 4)).astype(np.float32)
    scores /= scores.sum(-1, keepdims=True)
    scores[:, :, 3:] = np.nan
    given_ = scores.copy()
    given_[0, 0, 0] = np.roll(scores[0, 0, 0], 1)
    given_[1, 0, 4] = 0.25
    found = fidelity_of(scores, given_)
    assert found.bounded == "agreement"
    assert found.agreement == pytest.approx(1 - 2 / 30)


def fidelity_of(original: Floats, given_: Floats) -> Any:
    profile = Profile()
    for one in original:
        profile.add(one)
    closeness = Closeness("y", profile)
    for one, other in zip(original, given_, strict=True):
        closeness.add({"y": one}, {"y": other})
    return closeness.value


# ------------------------------------------------------------- several outputs


def nearness(wanted: dict[str, Floats], given_: dict[str, Floats]) -> Nearness:
    found = Nearness()
    for row in range(len(next(iter(wanted.values())))):
        found.add(*({n: a[row : row + 1] for n, a in each.items()} for each in (wanted, given_)))
    return found


@pytest.mark.parametrize("form", ["two outputs", "one output", "a table"])
def test_scores_beside_boxes_are_seen(form: str) -> None:
    """Boxes in pixels beside scores from 0 to 1: destroyed scores are worse than boxes off by 2."""
    generator = np.random.default_rng(0)
    boxes = generator.uniform(0, 320, (40, 4, 8, 8))
    scores = generator.uniform(0, 0.1, (40, 6, 8, 8))
    off = boxes + generator.choice([-2.0, 2.0], boxes.shape)
    destroyed = generator.permuted(scores, axis=0)

    def outputs(boxes: Floats, scores: Floats) -> dict[str, Floats]:
        if form == "two outputs":
            return {"boxes": boxes, "scores": scores}
        whole = np.concatenate([boxes, scores], axis=1)
        table = whole.reshape(40, 10, 64).swapaxes(1, 2)
        return {"all": whole if form == "one output" else table}

    wanted = outputs(boxes, scores)
    near, broken = (
        nearness(wanted, outputs(off, scores)),
        nearness(wanted, outputs(boxes, destroyed)),
    )
    assert near.explained > 0.99
    assert broken.explained < 0.5
    assert broken.choosing == pytest.approx(0.5 if form == "two outputs" else 0.4, abs=0.01)
    assert broken.worst is not None
    assert broken.worst.output == ("scores" if form == "two outputs" else "all")
    assert broken.worst.channel in (range(6) if form == "two outputs" else range(4, 10))
    assert broken.sqnr_db is not None
    assert near.sqnr_db is not None
    assert broken.sqnr_db > near.sqnr_db, "which is why it does not decide"


def test_outputs_count_alike_however_many_channels_they_have() -> None:
    wide, narrow = random(30, 9), random(30, 1, seed=1)
    half = narrow * 0.5 + narrow.mean() * 0.5
    found = nearness({"wide": wide, "narrow": narrow}, {"wide": wide, "narrow": half})
    assert found.explained == pytest.approx((1 + 0.75) / 2)
    assert found.worst is not None
    assert (found.worst.output, found.worst.channel) == ("narrow", 0)
    assert found.worst.others == 1.0
    alone = nearness({"narrow": narrow}, {"narrow": half})
    assert alone.worst is not None
    assert alone.worst.others is None


def test_where_nothing_varies_power_stands_in() -> None:
    wanted = np.full((3, 1), 10.0)
    assert nearness({"y": wanted}, {"y": wanted}).explained == 1.0
    found = nearness({"y": wanted}, {"y": wanted + 1})
    assert found.explained == pytest.approx(0.99)
    assert found.worst is None
    nothing = nearness({"y": wanted * 0}, {"y": wanted})
    assert nothing.explained == 0.0


def test_words_are_labels_and_a_wrong_one_counts() -> None:
    words = np.array([["a"], ["b"]], dtype=object)
    found = nearness({"words": words, "y": random(2, 1)}, {"words": words[::-1], "y": random(2, 1)})
    assert found.explained == 0.5


@given(SEEDS, st.floats(1e150, 1e200))
@settings(max_examples=10)
def test_whatever_overflows_is_told_as_a_number(seed: int, huge: float) -> None:
    wanted = random(4, 3, seed=seed)
    found = nearness({"y": wanted}, {"y": wanted * huge})
    assert np.isfinite(found.explained)
    assert found.explained < 0


# ------------------------------------------------------------- variances to divide by


def test_variances_spread_over_the_arrays_that_they_are_of() -> None:
    values = random(50, 3, 4, 4) * np.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    found = channel_variances(values)
    assert found.shape == (1, 3, 1, 1)
    assert found.reshape(-1) == pytest.approx(values.var((0, 2, 3)))
    assert channel_variances(values[:, 0, 0, 0]) == pytest.approx(values[:, 0, 0, 0].var())
    assert channel_variances(values[:, 0]).shape == (1, 1, 1)


def test_channels_that_hardly_vary_do_not_outweigh_the_others() -> None:
    values = random(64, 20)
    values[:, 0], values[:, 1] = values[:, 0] * 1e-4, 7.0
    found = channel_variances(values)[0]
    usual = np.quantile(values[:, [0, *range(2, 20)]].var(0), 0.1, method="lower")
    assert found[0] == pytest.approx(1e-4 * usual)
    assert found[1] == pytest.approx(usual)
    assert channel_variances(np.full((9, 2), 3.0)).tolist() == [[1.0, 1.0]]


def test_what_is_no_number_has_no_part_in_a_variance() -> None:
    values = random(40, 2)
    values[:5, 0], values[5, 0] = np.nan, np.inf
    assert channel_variances(values)[0, 0] == pytest.approx(values[6:, 0].var())


def test_an_output_may_be_empty_for_a_sample() -> None:
    """A detector that found nothing."""
    explained, boxes = Explained(), random(3, 5, 4)
    explained.add(boxes[:1, :0], boxes[:1, :0])
    for one in boxes:
        explained.add(one[None], one[None] * 0.5 + one.mean(0) * 0.5)
    assert explained.value is not None
    assert 0.5 < explained.value < 1


def test_scores_are_scores_where_a_sample_has_none() -> None:
    scores = np.abs(random(3, 1, 5, 4))
    scores /= scores.sum(-1, keepdims=True)
    profile = Profile()
    for one in (scores[0], scores[1][:, :0], scores[2]):
        profile.add(one)
    assert profile.axis == 2
    closeness = Closeness("y", profile)
    closeness.add({"y": scores[1][:, :0]}, {"y": scores[1][:, :0]})
    closeness.add({"y": scores[0]}, {"y": scores[0]})
    assert closeness.value.agreement == 1.0
