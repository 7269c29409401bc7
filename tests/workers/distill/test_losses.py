"""The losses of distillation against values computed by hand."""

import math

import pytest
import torch

from workers.compression.learning import losses


def test_softened_targets_are_the_divergence_times_the_squared_temperature() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3.0), 0.0]])
    # at temperature 2: teacher (3/4, 1/4), student (1/2, 1/2)
    wanted = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert float(losses.soft_targets(student, teacher, 2.0)) == pytest.approx(wanted)


def test_attention_is_the_squared_distance_of_normalised_maps() -> None:
    student = torch.tensor([[[3.0, 0.0], [0.0, 3.0]]])  # squares, mean over channels: 4.5, 4.5
    teacher = torch.tensor([[[1.0, 0.0]]])
    wanted = (1 - math.sqrt(0.5)) ** 2 + 0.5
    assert float(losses.attention_transfer(student, teacher)) == pytest.approx(wanted)


def test_attention_does_not_depend_on_scale() -> None:
    layer = torch.rand(4, 3, 9)
    assert float(losses.attention_transfer(layer, 7 * layer)) == pytest.approx(0, abs=1e-6)


def test_relations_are_compared_over_their_mean_by_the_huber_loss() -> None:
    student = torch.tensor([[0.0], [1.0], [2.0]])  # distances 1, 2, 1 over 4/3
    teacher = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 3, 2 over 2
    found = [0.75 - 0.5, 1.5 - 1.5, 0.75 - 1.0]
    wanted = sum(0.5 * each**2 for each in found) / 3
    assert float(losses.relational(student, teacher)) == pytest.approx(wanted)


def test_one_sample_has_no_relations() -> None:
    student = torch.ones(1, 3, requires_grad=True)
    loss = losses.relational(student, torch.zeros(1, 3))
    assert loss.item() == 0
    assert loss.requires_grad
