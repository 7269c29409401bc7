"""Losses against their definitions, on every layout of outputs."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from app.domain.jobs import Evaluate
from app.domain.metrics import Metric
from app.domain.problems import DatasetMismatch, StepFailed
from workers.compression.learning import losses, objectives
from workers.compression.learning.augment import augment
from workers.compression.learning.schedules import warm_up_cosine
from workers.compression.measure.quality import Yardstick

GENERATOR = torch.Generator().manual_seed(0)


def scores(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def classes(below: int, *shape: int) -> Tensor:
    return torch.randint(below, shape, generator=GENERATOR)


def judged(metric: Metric) -> Yardstick:
    return Yardstick(metric, "y", Evaluate(metric=metric))


LAYOUTS = [
    ((6, 5), (6,), 1),
    ((6, 5, 3), (6, 3), 1),
    ((6, 3, 5), (6, 3), 2),
    ((6, 5, 2, 3), (6, 2, 3), 1),
    ((6, 2, 3, 5), (6, 2, 3), 3),
    ((6, 1, 5), (6,), 2),
]


@pytest.mark.parametrize(("shape", "targets", "axis"), LAYOUTS)
@pytest.mark.parametrize("softmax", [False, True])
def test_classes_are_found_on_either_axis_as_logits_or_probabilities(
    shape: tuple[int, ...], targets: tuple[int, ...], axis: int, softmax: bool
) -> None:
    logits, wanted = scores(*shape), classes(5, *targets)
    output = logits.softmax(axis) if softmax else logits
    assert losses.class_axis(shape, targets) == axis
    term = objectives.labels("y", output, wanted, judged("top1"))
    by_position = logits.movedim(axis, -1).reshape(-1, 5).log_softmax(-1)
    expected = -by_position[torch.arange(len(by_position)), wanted.reshape(-1)].mean()
    assert torch.allclose(term({"y": output}, {}, wanted), expected, atol=1e-5)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_single_yes_or_no_is_binary_cross_entropy(sigmoid: bool) -> None:
    """Logits may lie between 0 and 1, all of them: the graph says what they are."""
    between, wanted = scores(9, 1).sigmoid(), classes(2, 9)
    probability = between if sigmoid else between.sigmoid()
    right = torch.where(wanted[:, None] == 1, probability, 1 - probability)
    yardstick = Yardstick("top1", "y", Evaluate(metric="top1"), probabilities=sigmoid)
    term = objectives.labels("y", between, wanted, yardstick)
    assert torch.allclose(term({"y": between}, {}, wanted), -right.log().mean(), atol=1e-5)


@pytest.mark.parametrize(
    ("output", "wanted"),
    [(scores(6, 5, 3), classes(5, 6, 3)), (scores(6, 4), classes(2, 6, 4))],
    ids=["classes", "yes or no"],
)
def test_targets_of_minus_100_teach_nothing(output: Tensor, wanted: Tensor) -> None:
    padded = torch.cat([output, 9 * output]), torch.cat([wanted, torch.full_like(wanted, -100)])
    term = objectives.labels("y", padded[0], padded[1], judged("top1"))
    alone = objectives.labels("y", output, wanted, judged("top1"))
    assert torch.allclose(term({"y": padded[0]}, {}, padded[1]), alone({"y": output}, {}, wanted))
    nothing = padded[1][len(wanted) :]
    assert float(term({"y": output}, {}, nothing)) == 0


@pytest.mark.parametrize("metric", ["mse", "mae"])
def test_errors_of_numbers_do_not_depend_on_their_unit(metric: str) -> None:
    output, wanted = scores(20, 3), scores(20, 3)
    kind: Metric = "mae" if metric == "mae" else "mse"
    values = [
        objectives.labels("y", unit * output, unit * wanted, judged(kind))(
            {"y": unit * output}, {}, unit * wanted
        )
        for unit in (1.0, 1000.0)
    ]
    assert torch.allclose(values[0], values[1], rtol=1e-4)


def test_where_the_teacher_is_wrong_it_teaches_nothing() -> None:
    scores, teacher = torch.randn(4, 3), torch.eye(3)[[0, 1, 2, 0]] * 5
    right = torch.tensor([0, 1, 2, 1])
    counted = losses.soft_targets(scores, teacher, 2.0, right)
    first_three = losses.soft_targets(scores[:3], teacher[:3], 2.0)
    assert torch.allclose(counted, first_three * 3 / 4)


def test_soft_targets_are_the_divergence_at_a_temperature() -> None:
    student, teacher = scores(7, 4), scores(7, 4)
    p, q = (teacher / 3).softmax(-1), (student / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    assert torch.allclose(losses.soft_targets(student, teacher, 3.0), expected, atol=1e-5)
    assert float(losses.soft_targets(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-6)


def test_every_output_of_floats_is_imitated_and_no_other() -> None:
    teacher = {
        "probabilities": scores(8, 3, 5).softmax(-1),
        "numbers": 100 * scores(8, 2),
        "indices": classes(5, 8),
    }
    terms = objectives.imitation(teacher, None, "numbers", 2.0)
    assert len(terms) == 2
    for term in terms:
        assert float(term(teacher, teacher, None)) == pytest.approx(0, abs=1e-5)
    worse = {**teacher, "numbers": teacher["numbers"].roll(1, 0)}
    assert float(terms[1](worse, teacher, None)) == pytest.approx(2, rel=0.7)


def test_a_teacher_without_floats_teaches_nothing() -> None:
    with pytest.raises(StepFailed, match="floats"):
        objectives.imitation({"indices": classes(5, 8)}, None, "indices", 2.0)


def test_what_is_not_finite_in_the_teacher_is_left_out() -> None:
    wanted = torch.tensor([1.0, float("inf"), float("nan"), 2.0])
    assert float(losses.squared_error(torch.zeros(4), wanted)) == pytest.approx(5 / 4)


def test_integers_cannot_be_trained_against_targets() -> None:
    with pytest.raises(DatasetMismatch, match="'loss': 'teacher'"):
        objectives.labels("y", classes(5, 8), classes(5, 8), judged("top1"))


@pytest.mark.parametrize("total", [1, 2, 10, 100, 1000])
def test_the_learning_rate_rises_to_its_peak_and_falls(total: int) -> None:
    rates = [warm_up_cosine(step / total, (step + 1) / total) for step in range(total)]
    peak = int(np.argmax(rates))
    assert rates[peak] == 1
    assert peak == math.ceil(total / 20) - 1
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert min(rates) >= 0.01
    assert total < 10 or rates[-1] < 0.04
    assert total < 100 or rates[0] == pytest.approx(20 / total)


@pytest.mark.parametrize("last", [False, True])
def test_a_mixed_image_has_a_box_of_another_one_at_its_place(last: bool) -> None:
    place = torch.arange(16.0 * 8).reshape(16, 8)
    images = (place + 1000 * torch.arange(64.0)[:, None, None])[:, None].expand(64, 3, 16, 8)
    given = images.movedim(1, 3) if last else images
    found = augment(given, ["mix"], np.random.default_rng(0))
    mixed = (found.movedim(3, 1) if last else found)[:, 0]
    assert found.shape == given.shape
    assert torch.equal(mixed % 1000, place.expand(64, 16, 8))
    count = 0
    for index, whose in enumerate((mixed // 1000).long()):
        rows, columns = (whose != index).nonzero(as_tuple=True)
        if len(rows):
            box = whose[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert len(box.unique()) == 1
            count += 1
    assert 16 < count < 48


@pytest.mark.parametrize("last", [False, True])
def test_a_flip_mirrors_some_images_and_a_shift_moves_them_by_an_eighth(last: bool) -> None:
    images = scores(64, 3, 16, 16)
    given = images.movedim(1, 3) if last else images

    def changed(*kinds: str) -> Tensor:
        found = augment(given, kinds, np.random.default_rng(0))
        assert found.shape == given.shape
        return found.movedim(3, 1) if last else found

    flipped = changed("flip")
    mirrored = [bool(torch.equal(a, b.flip(2))) for a, b in zip(flipped, images, strict=True)]
    same = [bool(torch.equal(a, b)) for a, b in zip(flipped, images, strict=True)]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48
    for image, moved in zip(images, changed("shift"), strict=True):
        inner = moved[:, 2:-2, 2:-2]
        assert any(
            torch.equal(inner, image[:, 2 + dy : 14 + dy, 2 + dx : 14 + dx])
            for dy in range(-2, 3)
            for dx in range(-2, 3)
        )
