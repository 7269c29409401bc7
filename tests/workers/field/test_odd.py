"""Graphs of rare forms go through training and cutting, or are left as they are with the reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.workers.field import odd
from tests.workers.field.conftest import CarryOut
from tests.workers.field.graphs import Field

ONCE = {"epochs": 1, "learning_rate": 1e-3}
STEPS: dict[str, dict[str, Any]] = {
    "qat": {"method": "quantize", "mode": "qat", "recover": ONCE},
    "channels": {"method": "prune", "ratio": 0.3, "recover": ONCE},
}
TRAININGS: dict[str, dict[str, Any]] = STEPS | {
    "derived": {"method": "distill", "student": {"derive": {}}, "recover": {"epochs": 1}},
    "built": {
        "method": "distill", "student": {"architecture": "mlp"}, "recover": {"epochs": 1},
    },
    "gradual": {
        "method": "prune", "granularity": "unstructured", "schedule": "polynomial",
        "recover": {"epochs": 2},
    },
    "factors": {"method": "low_rank", "ratio": 0.3, "recover": {"epochs": 1}},
}  # fmt: skip
"""Steps that train; without a rate of learning, one is tried first."""
WHAT_HAS_NO_LAYER = {
    name: TRAININGS[name] for name in ("qat", "channels", "derived", "gradual", "factors")
}
GRAPHS: dict[Callable[[], Field], int | None] = {
    odd.loop_with_a_branch: None,
    odd.scan_over_steps: None,
    odd.two_batches: 3,
    odd.narrow_integers: 3,
    odd.nothing_answered: 2,
    odd.optional_value: None,
    odd.sequence_of_parts: None,
    odd.names_of_any_kind: 3,
    odd.all_dynamic: 2,
    odd.single_numbers: 2,
    odd.weight_as_output: None,
    odd.half_loop: None,
    odd.labels_of_numbers: 2,
    odd.boxes_that_overlap: 3,
}
"""How many layers are cut; None where no channel can be."""
LEAST_EXPLAINED = {odd.labels_of_numbers: 0.9}
"""Of the outputs' variance, where one epoch on integers does not keep 0.95 of it."""


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_what_cannot_be_cut_stays_and_the_rest_is(
    carry_out: CarryOut, graph: Callable[[], Field]
) -> None:
    result, layers = carry_out(graph(), STEPS["channels"]), GRAPHS[graph]
    assert result.report is not None
    [done] = result.report.step_reports
    if layers is None:
        assert result.problem is not None
        assert result.problem.type == "nothing-changed"
        assert not done.changed, "what is not cut is not trained"
        assert done.skipped
    else:
        assert result.problem is None
        assert len(done.layers) == layers
        assert result.report.compressed.macs < result.report.baseline.macs


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_every_graph_is_trained_through_its_rounding(
    carry_out: CarryOut, graph: Callable[[], Field]
) -> None:
    result = carry_out(graph(), STEPS["qat"])
    assert result.problem is None
    assert result.report is not None
    assert result.report.step_reports[0].layers
    fidelity = result.report.compressed.fidelity
    assert fidelity is not None
    assert (fidelity.explained or 0) > LEAST_EXPLAINED.get(graph, 0.95)


@pytest.mark.parametrize("step", WHAT_HAS_NO_LAYER)
def test_a_graph_without_a_layer_to_act_on_is_not_a_failed_step(
    carry_out: CarryOut, step: str
) -> None:
    problem = carry_out(odd.without_a_layer(), TRAININGS[step]).problem
    assert problem is not None
    assert problem.type == "nothing-changed"


@pytest.mark.parametrize("step", TRAININGS)
def test_samples_that_are_not_finite_cannot_be_trained_on_and_are_named(
    carry_out: CarryOut, step: str
) -> None:
    field = odd.narrow_integers()
    graphs = {"qat": odd.weight_as_output, "channels": odd.single_numbers}
    spoilt = graphs.get(step, odd.plain)()
    data = {name: array.copy() for name, array in spoilt.data.items()}
    data["x"][::7, 3] = np.nan
    problem = carry_out(Field(spoilt.model, data), TRAININGS[step]).problem
    assert problem is not None
    assert problem.type == "step-failed"
    assert "hold NaN or infinity in input 'x'" in problem.detail
    assert "take them out of the dataset" in problem.detail
    if step in STEPS:
        assert carry_out(field, STEPS[step], name="finite").problem is None


@pytest.mark.parametrize("step", ["float16", "dynamic"])
def test_strings_are_no_bar_to_arithmetic_between_them(carry_out: CarryOut, step: str) -> None:
    result = carry_out(odd.words_to_labels(), {"method": "quantize", "mode": step, "force": True})
    assert result.problem is None
    assert result.report is not None
    assert len(result.report.step_reports[0].layers) == 2
    fidelity = result.report.compressed.fidelity
    assert fidelity is not None
    assert (fidelity.explained or 0) > 0.9


@pytest.mark.parametrize("criterion", ["auto", "taylor", "hessian"])
def test_without_a_gradient_weights_are_judged_by_their_size_or_it_is_said(
    carry_out: CarryOut, criterion: str
) -> None:
    step = {"method": "prune", "ratio": 0.3, "criterion": criterion}
    problem = carry_out(odd.nothing_to_descend(), step).problem
    if criterion == "auto":
        assert problem is None
    else:
        assert problem is not None
        assert problem.type == "step-failed"
        assert "Use 'criterion': 'magnitude'" in problem.detail


def test_whole_matrices_of_a_stack_are_reported_as_they_go(carry_out: CarryOut) -> None:
    step = {"method": "prune", "ratio": 0.3, "criterion": "taylor"}
    report = carry_out(odd.stacked_matrices(), step).report
    assert report is not None
    [done] = report.step_reports
    assert report.compressed.macs < report.baseline.macs
    assert {layer.node for layer in done.layers} == {"MatMul_1", "MatMul_3"}
    assert all("in a stack" in layer.change for layer in done.layers)
