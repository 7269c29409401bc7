"""Compact networks follow the size of what they read, as their authors' layouts do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import layouts
from app.domain.models import TensorSpec
from app.domain.steps import Distill
from app.domain.steps.base import Outlook


@pytest.mark.parametrize(
    ("architecture", "side", "count"),
    [
        ("mobilenet_v2", 224, 5),  # the paper's: 7 × 7 at the end
        ("mobilenet_v2", 96, 4),
        ("mobilenet_v2", 32, 3),  # CIFAR: 4 × 4
        ("shufflenet_v2", 28, 3),  # MNIST: 4 × 4
        ("mobilenet_v3", 8, 1),
        ("resnet_cifar", 32, 2),  # the paper's: 8 × 8
        ("resnet_cifar", 28, 2),
        ("resnet_cifar", 224, 4),
    ],
)
def test_pictures_are_halved_as_often_as_is_usual_for_their_size(
    architecture: str, side: int, count: int
) -> None:
    assert layouts.halvings(architecture, side) == count


@given(st.sampled_from(sorted(layouts.HALVINGS)), st.integers(1, 2000))
def test_a_larger_picture_is_never_halved_less_often(architecture: str, side: int) -> None:
    count = layouts.halvings(architecture, side)
    assert 0 <= count <= layouts.halvings(architecture, side + 1) <= layouts.HALVINGS[architecture]
    assert count == 0 or -(-side // 2**count) >= 4


@pytest.mark.parametrize(("side", "patch"), [(224, 16), (384, 16), (64, 8), (32, 4), (8, 1)])
def test_patches_are_those_of_vision_transformers_for_such_pictures(side: int, patch: int) -> None:
    assert layouts.picture_patch(side) == patch


@given(st.integers(1, 100_000))
def test_a_transformer_looks_at_a_bounded_number_of_places(length: int) -> None:
    patch = layouts.sequence_patch(length)
    assert 1 <= length // patch <= 256
    assert patch == 1 or length > 256


def spec(*shape: int | str) -> TensorSpec:
    return TensorSpec(name="x", dtype="float32", shape=list(shape))


def test_a_plan_says_what_a_student_will_look_like() -> None:
    words = layouts.describe("mobilenet_v2", 0.5, [spec("batch", 3, 32, 32)])
    assert words == (
        "a mobilenet_v2 of width 0.5 for pictures of 32 × 32 pixels, which it halves 3 of 5 times,"
        " to 4 × 4"
    )
    assert "4 × 4" in layouts.describe("mobilenet_v2", 0.5, [spec("batch", 32, 32, 3)])
    assert "patches of 16 × 16" in layouts.describe("transformer", 1.0, [spec(1, 3, 224, 224)])
    assert "4 at a time" in layouts.describe("transformer", 1.0, [spec("n", 1000, 80)])
    assert "meets 'ratio'" in layouts.describe("mlp", None, [spec("n", 64)])
    assert "dataset" in layouts.describe("resnet_cifar", 1.0, [spec("n", 3, "h", "w")])


def test_the_forecast_of_a_student_that_is_built_has_that_description() -> None:
    step = Distill.model_validate({"student": {"architecture": "mobilenet_v2", "ratio": 0.5}})
    outlook = Outlook(
        layers=[], size_bytes=100, macs=1000, samples=10, inputs=[spec("batch", 3, 32, 32)]
    )
    [remark] = step.forecast(outlook).remarks
    words = layouts.describe("mobilenet_v2", None, outlook.inputs)
    assert remark == f"The student is {words}."
