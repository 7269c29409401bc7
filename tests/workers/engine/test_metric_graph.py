"""A metric of the user's own: an ONNX graph that reads outputs, the original's, and targets."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.workers.engine.conftest import Run, report_of

STATIC = {"method": "quantize", "mode": "static", "force": True, "calibration_samples": 32}
DYNAMIC = {"method": "quantize", "mode": "dynamic", "force": True}
HEAD = '<ir_version: 9, opset_import: ["": 20]> metric'

RIGHT = f"""{HEAD} (float[N, 10] logits, int64[N] targets) => (float[N] right)
{{
    best = ArgMax<axis = 1, keepdims = 0>(logits)
    same = Equal(best, targets)
    right = Cast<to = 1>(same)
}}"""
SHARE = f"""{HEAD} (float[N, 10] logits, int64[N] targets) => (float share)
{{
    best = ArgMax<axis = 1, keepdims = 0>(logits)
    same = Equal(best, targets)
    right = Cast<to = 1>(same)
    share = ReduceMean<keepdims = 0>(right)
}}"""
AWAY = f"""{HEAD} (float[N, 10] logits, float[N, 10] reference__logits) => (float[N] away)
<int64[1] axes = {{1}}>
{{
    difference = Sub(logits, reference__logits)
    length = Abs(difference)
    away = ReduceMean<keepdims = 0>(length, axes)
}}"""
NEAR = AWAY.replace("length = Abs(difference)", "far = Abs(difference)\n    length = Neg(far)")
ONE_BY_ONE = RIGHT.replace("[N", "[1")
FLOAT64 = f"""{HEAD} (double[N, 10] logits) => (double[N, 1] first)
<int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] second = {{1}}>
{{
    first = Slice(logits, zero, one, second)
}}"""
TWO = f"{HEAD} (float[N, 10] logits) => (float[N, 10] y) {{ y = Identity(logits) }}"
UNDEFINED = f"""{HEAD} (float[N, 10] logits) => (float[N] y)
<float[1] zero = {{0.0}}, int64[1] axes = {{1}}>
{{
    sum = ReduceSum<keepdims = 0>(logits, axes)
    none = Mul(sum, zero)
    y = Div(none, none)
}}"""
STRANGE = f"{HEAD} (float[N, 10] scores) => (float[N, 10] y) {{ y = Identity(scores) }}"
FAILING = f"""{HEAD} (float[N, M] logits) => (float[N, 10] y)
<float[3] w = {{1.0, 2.0, 3.0}}> {{ y = Add(logits, w) }}"""


@pytest.fixture
def few(digits: tuple[NDArray[np.float32], NDArray[np.int64]], tmp_path: Path) -> Path:
    """A hundred and fifty digits with their classes: thirty are held out."""
    path = tmp_path / "few.npz"
    np.savez(path, allow_pickle=False, image=digits[0][:150], targets=digits[1][:150])
    return path


def graph(tmp_path: Path, text: str) -> Path:
    """Store a graph; ``__`` in its text stands for a point, which the text cannot have."""
    model = onnx.parser.parse_model(text)
    for named in (*model.graph.input, *model.graph.node):
        if isinstance(named, onnx.NodeProto):
            named.input[:] = [name.replace("__", ".") for name in named.input]
        else:
            named.name = named.name.replace("__", ".")
    path = tmp_path / "metric"
    onnx.save(model, path)
    return path


def asked(**more: Any) -> dict[str, Any]:
    return {"evaluate": {"metric": {"model": "mdl_right"}, **more}}


def test_a_number_a_sample_is_averaged_and_one_for_all_is_taken_as_it_is(
    job: Run, exported: dict[str, Path], few: Path, tmp_path: Path
) -> None:
    """Three graphs that count right answers find what the metric with a name finds."""
    known = report_of(job(exported["mlp"], STATIC, data=few)).compressed.quality
    assert known is not None
    for name, text in (("each", RIGHT), ("all", SHARE), ("single", ONE_BY_ONE)):
        metric = graph(tmp_path, text)
        report = report_of(
            job(exported["mlp"], STATIC, data=few, metric=metric, name=name, **asked())
        )
        quality = report.compressed.quality
        assert quality is not None
        assert (quality.metric, quality.kind) == ("mdl_right", "gain")
        assert quality.samples == known.samples == 30
        assert quality.value == pytest.approx(known.value), name
        assert report.evaluation.metric == "mdl_right"
        assert any(
            "mdl_right" in note and "more is better" in note for note in report.evaluation.notes
        )
        assert "mdl_right" in report.verdict


def test_the_original_s_outputs_can_be_read_and_no_targets_are_needed(
    job: Run, exported: dict[str, Path], few: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.npz"
    with np.load(few) as arrays:
        np.savez(bare, allow_pickle=False, image=arrays["image"])
    metric = graph(tmp_path, AWAY)
    wish = asked(higher_is_better=False)
    report = report_of(job(exported["mlp"], DYNAMIC, data=bare, metric=metric, **wish))
    assert report.baseline.quality is not None
    assert report.compressed.quality is not None
    assert report.baseline.quality.value == 0
    assert report.compressed.quality.value > 0
    assert report.compressed.quality.kind == "error"


def test_a_requirement_bounds_it_in_its_own_unit_and_steps_keep_it(
    job: Run, exported: dict[str, Path], few: Path, tmp_path: Path
) -> None:
    """Layers are left in float until the user's metric keeps the bound."""
    metric = graph(tmp_path, NEAR)
    step = {**STATIC, "ranges": "percentile", "percentile": 90, "smooth": False}
    free = report_of(job(exported["mlp"], step, data=few, metric=metric, name="free", **asked()))
    assert free.compressed.quality is not None
    assert free.compressed.quality.value < -0.1
    bound = {"max_quality_drop": -0.9 * free.compressed.quality.value}
    kept = job(
        exported["mlp"], step, data=few, metric=metric, name="kept", require=bound, **asked()
    )
    report = report_of(kept)
    assert report.compressed.quality is not None
    assert -report.compressed.quality.value <= bound["max_quality_drop"]
    reasons = [skip.reason for skip in report.step_reports[0].skipped]
    assert any(reason.startswith("left in float") for reason in reasons)
    missed = job(
        exported["mlp"], {"method": "prune", "ratio": 0.6}, data=few, metric=metric,
        name="missed", require={"max_quality_drop": 1e-4}, **asked(),
    )  # fmt: skip
    assert missed.problem is not None
    assert missed.problem.type == "quality-below-requirement"
    assert (missed.problem.model_extra or {})["metric"] == "mdl_right"


def test_a_training_chooses_by_its_loss(
    job: Run, exported: dict[str, Path], few: Path, tmp_path: Path
) -> None:
    recover = {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3, "loss": "teacher"}
    step = {"method": "prune", "ratio": 0.3, "recover": recover}
    metric = graph(tmp_path, RIGHT)
    report = report_of(job(exported["mlp"], step, data=few, metric=metric, **asked()))
    assert report.compressed.quality is not None
    assert report.compressed.quality.metric == "mdl_right"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO, "20 numbers for two samples"),
        (UNDEFINED, "gives nan for one sample"),
        (STRANGE, "no array of the name of its input 'scores'. Call the input logits, targets"),
        (FAILING, "does not run on 'logits' [1, 10]"),
        (
            RIGHT.replace("float[N, 10]", "float[N, 9]"),
            "and its input 'logits' reads [N, 9]",
        ),
        (RIGHT.replace("int64[N] targets", "int64[N, 3] targets"), "reads [N, 3]"),
    ],
    ids=["size", "nan", "name", "failing", "shape", "targets"],
)
def test_a_metric_that_gives_no_figure_is_a_problem_before_a_step_runs(
    job: Run, exported: dict[str, Path], few: Path, tmp_path: Path, text: str, said: str
) -> None:
    result = job(exported["mlp"], STATIC, data=few, metric=graph(tmp_path, text), **asked())
    assert result.problem is not None
    assert result.problem.type == "metric-failed"
    assert said in result.problem.detail
    assert not (tmp_path / "job" / "steps").exists()


def test_a_metric_that_is_not_there_or_is_no_graph_is_a_problem(
    job: Run, exported: dict[str, Path], few: Path, tmp_path: Path
) -> None:
    problem = job(exported["mlp"], STATIC, data=few, **asked()).problem
    assert problem is not None
    assert (problem.type, "'metric.onnx'" in problem.detail) == ("metric-failed", True)


def test_numbers_are_read_in_the_types_that_the_metric_has(
    job: Run, exported: dict[str, Path], few: Path, tmp_path: Path
) -> None:
    metric = graph(tmp_path, FLOAT64)
    report = report_of(job(exported["mlp"], DYNAMIC, data=few, metric=metric, **asked()))
    assert report.compressed.quality is not None
    assert np.isfinite(report.compressed.quality.value)
