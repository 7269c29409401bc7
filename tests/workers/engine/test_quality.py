"""Every metric equals scikit-learn's; what cannot be compared is said by name."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.metrics import pairwise

from app.domain.jobs import Evaluate
from app.domain.metrics import METRICS, Metric
from app.domain.problems import DatasetMismatch
from workers.compression.measure import quality
from workers.compression.measure.metrics.graph import GraphMetric
from workers.compression.measure.quality import METERS, Yardstick


def scored(metric: Metric, outputs: np.ndarray, targets: np.ndarray, **parameters: float) -> float:
    wish = Evaluate.model_validate({"metric": metric, **parameters})
    score = Yardstick(metric, "out", wish).score()
    for output, target in zip(outputs, targets, strict=True):
        score.add({"out": output[None]}, target)
    assert score.samples == len(targets)
    return score.value


@given(st.integers(0, 2**32 - 1), st.integers(6, 12), st.integers(1, 40))
def test_class_metrics_equal_scikit_learns(seed: int, classes: int, samples: int) -> None:
    generator = np.random.default_rng(seed)
    outputs = generator.standard_normal((samples, classes)).astype(np.float32)
    targets = generator.integers(0, classes, samples)
    answers = outputs.argmax(1)
    labels = list(range(classes))
    assert scored("top1", outputs, targets) == metrics.accuracy_score(targets, answers)
    top5 = metrics.top_k_accuracy_score(targets, outputs, k=5, labels=labels)
    assert scored("top5", outputs, targets) == pytest.approx(top5)
    f1 = metrics.f1_score(targets, answers, average="macro")
    assert scored("f1", outputs, targets) == pytest.approx(f1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_errors_equal_scikit_learns(seed: int, samples: int) -> None:
    generator = np.random.default_rng(seed)
    outputs, targets = generator.standard_normal((2, samples, 3)).astype(np.float32)
    squared = metrics.mean_squared_error(targets, outputs)
    absolute = metrics.mean_absolute_error(targets, outputs)
    assert scored("mse", outputs, targets) == pytest.approx(squared, rel=1e-5)
    assert scored("mae", outputs, targets) == pytest.approx(absolute, rel=1e-5)


@pytest.mark.parametrize("axis", [1, -1])
def test_scores_of_positions_are_read_along_either_axis(axis: int) -> None:
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((5, 7, 11)).astype(np.float32)
    targets = scores.argmax(-1)
    outputs = np.moveaxis(scores, -1, axis)
    assert scored("top1", outputs, targets) == 1.0


def test_integer_outputs_are_classes_already() -> None:
    assert scored("top1", np.array([[3], [1]]), np.array([3, 2])) == 0.5
    assert scored("f1", np.array([[3], [3]]), np.array([3, 3])) == 1.0


def test_the_metric_follows_from_the_targets() -> None:
    assert quality.infer(np.array([1, 2]), Evaluate()) == "top1"
    assert quality.infer(np.array([1.0]), Evaluate()) == "mse"
    assert quality.infer(None, Evaluate()) is None


@pytest.mark.parametrize(
    ("sizes", "targets", "metric"),
    [
        ((1,), [0, 1, 1], "top1"),
        ((1,), [0, 7, 30], "mse"),
        ((2,), [[0, 1], [1, 1], [0, 0]], "top1"),
        ((2,), [[0, 4], [1, 1], [0, 0]], "mse"),
        ((5,), [0, 1, 4], "top1"),
        (("c",), [0, 1, 4], "top1"),
    ],
)
def test_integers_are_numbers_where_the_output_has_one_number_for_each(
    sizes: tuple[int | str, ...], targets: Any, metric: Metric
) -> None:
    output = ir.Value(
        name="y", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", *sizes])
    )
    model = ir.Model(ir.Graph([], [output], nodes=[]), ir_version=10)
    found = quality.yardstick(model, np.array(targets), Evaluate())
    assert found is not None
    assert found.metric == metric


@pytest.mark.parametrize(
    ("makes_y", "threshold"),
    [
        ("y = Neg (x)", 0.0),
        ("y = Sigmoid (x)", 0.5),
        ("p = Sigmoid (x)  s = Squeeze (p)  y = Reshape (s, shape)", 0.5),
        ("n = Neg (x)  e = Exp (n)  d = Add (e, one)  y = Div (one, d)", 0.5),
        ("p = Sigmoid (x)  y = Sub (p, one)", 0.0),
        ("y = ai.onnx.ml.LinearRegressor <coefficients = [1.0], targets = 1> (x)", 0.0),
        ("y = ours.chance (x)", 0.5),
        ("y = ours.score (x)", 0.0),
    ],
)
def test_yes_is_more_than_half_of_a_probability_and_more_than_zero_of_a_logit(
    makes_y: str, threshold: float
) -> None:
    """A local function may hold the operator that makes a probability."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21, "ours": 1, "ai.onnx.ml": 3]>
        g (float[n, 1] x) => (float[n, 1] y)
        <int64[2] shape = {{-1, 1}}, float one = {{1}}> {{ {makes_y} }}
        <domain: "ours", opset_import: ["": 21]> chance (a) => (b) {{ b = Sigmoid (a) }}
        <domain: "ours", opset_import: ["": 21]> score (a) => (b) {{ b = Neg (a) }}"""
    )
    model = ir.serde.deserialize_model(proto)
    found = quality.yardstick(model, np.array([0, 1, 1]), Evaluate())
    assert found is not None
    assert found.settings.threshold == threshold
    assert found.probabilities == (threshold == 0.5)
    assert model.functions, "the graph is not changed"


def test_a_metric_without_its_targets_is_refused_with_what_to_do() -> None:
    with pytest.raises(DatasetMismatch, match="needs targets"):
        quality.infer(None, Evaluate(metric="top1"))
    with pytest.raises(DatasetMismatch, match="integer classes"):
        quality.infer(np.array([1.0]), Evaluate(metric="f1"))


@pytest.mark.parametrize(
    ("metric", "output", "target"),
    [
        ("top1", np.zeros((1, 3), np.float32), np.array(7)),
        ("top1", np.zeros((1, 1), np.float32), np.array(0)),
        ("top5", np.zeros((1, 4, 5), np.float32), np.array(1)),
        ("mse", np.zeros((1, 3), np.float32), np.array([1.0, 2.0])),
        ("f1", np.zeros((1, 0), np.int64), np.zeros(0, np.int64)),
    ],
)
def test_an_output_that_does_not_fit_is_named(
    metric: Metric, output: np.ndarray, target: np.ndarray
) -> None:
    with pytest.raises(DatasetMismatch, match="Output 'logits'"):
        Yardstick(metric, "logits", Evaluate()).score().add({"logits": output}, target)


def test_every_metric_has_a_row_in_both_tables() -> None:
    names = set(get_args(Metric))
    assert set(METRICS) == names
    assert set(METERS) == names


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 4))
def test_r2_equals_scikit_learns_whatever_the_units(seed: int, samples: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    units = np.logspace(0, 4, columns)
    targets = generator.standard_normal((samples, columns)) * units + 10 * units
    outputs = targets + generator.standard_normal((samples, columns)) * units / 3
    assert scored("r2", outputs, targets) == pytest.approx(metrics.r2_score(targets, outputs))
    one = metrics.r2_score(targets[:, 0], outputs[:, 0])
    assert scored("r2", outputs[:, :1], targets[:, 0]) == pytest.approx(one)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.floats(0.01, 1000))
def test_a_cosine_is_that_of_the_angle_and_knows_no_length(
    seed: int, samples: int, length: float
) -> None:
    outputs, targets = np.random.default_rng(seed).standard_normal((2, samples, 8))
    angles = [pairwise.cosine_similarity(o[None], t[None])[0, 0]
              for o, t in zip(outputs, targets, strict=True)]  # fmt: skip
    assert scored("cosine", outputs, targets * length) == pytest.approx(np.mean(angles))
    pictures = outputs.reshape(samples, 8, 1, 1)
    assert scored("cosine", pictures, targets) == pytest.approx(np.mean(angles))


def test_a_cosine_of_each_token_is_taken_by_itself() -> None:
    outputs = np.array([[[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    targets = np.array([[[6.0, 8.0], [-2.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
    assert scored("cosine", outputs, targets) == pytest.approx((1 - 1 + 1 + 0) / 4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 4))
def test_iou_of_classes_equals_scikit_learns(seed: int, samples: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    outputs = generator.standard_normal((samples, classes, 6, 6)).astype(np.float32)
    targets = generator.integers(0, classes, (samples, 6, 6))
    answers = outputs.argmax(1)
    wanted = metrics.jaccard_score(targets.ravel(), answers.ravel(), average="macro")
    assert scored("iou", outputs, targets) == pytest.approx(wanted)
    assert scored("iou", answers, targets) == pytest.approx(wanted)
    last = np.moveaxis(outputs, 1, -1)
    assert scored("iou", last, targets) == pytest.approx(wanted)


@given(st.integers(0, 2**32 - 1), st.floats(-1, 1), st.booleans())
def test_iou_of_masks_equals_scikit_learns(seed: int, threshold: float, flat: bool) -> None:
    generator = np.random.default_rng(seed)
    outputs = generator.standard_normal((4, 1, 6, 8)).astype(np.float32)
    targets = generator.integers(0, 2, (4, 6, 8) if flat else (4, 1, 6, 8))
    targets[0].flat[0] = 1
    wanted = metrics.jaccard_score(targets.ravel(), outputs.ravel() > np.float32(threshold))
    found = scored("iou", outputs, targets, threshold=float(np.float32(threshold)))
    assert found == pytest.approx(wanted)


def test_each_channel_of_masks_is_a_class() -> None:
    targets = np.zeros((1, 2, 4, 4), np.uint8)
    targets[0, 0, :2], targets[0, 1, :1] = 1, 1
    outputs = targets * np.float32(0.9)
    outputs[0, 1, :] = 0.6
    assert scored("iou", outputs, targets) == pytest.approx((1 + 4 / 16) / 2)
    assert scored("iou", outputs, targets, threshold=0.7) == pytest.approx(1 / 2)


@pytest.mark.parametrize("void", [-1, 255])
def test_iou_does_not_count_what_belongs_to_no_class(void: int) -> None:
    targets = np.array([[[0, 1], [void, 1]]])
    outputs = np.zeros((1, 3, 2, 2), np.float32)
    outputs[0, 0] = 1
    outputs[0, 1, 0, 1] = outputs[0, 1, 1, 1] = 2
    assert scored("iou", outputs, targets) == 1.0


def test_iou_of_nothing_against_nothing_is_whole() -> None:
    empty = np.zeros((1, 1, 3, 3), np.float32)
    assert scored("iou", empty, empty) == 1.0


WORDS = st.lists(st.integers(0, 4), max_size=9)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_cer_is_the_edits_over_the_length(pairs: list[tuple[list[int], list[int]]]) -> None:
    def edits(a: list[int], b: list[int]) -> int:
        if not a or not b:
            return len(a) + len(b)
        swapped = edits(a[:-1], b[:-1]) if a[-1] == b[-1] else None
        if swapped is not None:
            return swapped
        return 1 + min(edits(a[:-1], b), edits(a, b[:-1]), edits(a[:-1], b[:-1]))

    short = [(a[:5], b[:5]) for a, b in pairs]
    outputs, targets = (
        np.array([row[side] + [-1] * (6 - len(row[side])) for row in short]) for side in (0, 1)
    )
    length = sum(len(b) for _, b in short)
    wanted = sum(edits(a, b) for a, b in short) / max(length, 1)
    assert scored("cer", outputs, targets) == pytest.approx(wanted)


@pytest.mark.parametrize("layout", ["[T, C]", "[C, T]", "[T, 1, C]", "classes"])
def test_cer_joins_repeats_and_drops_blanks(layout: str) -> None:
    said = np.array([0, 3, 3, 0, 3, 1, 1, 0])
    scores = np.full((8, 5), 0.05, np.float32)
    scores[np.arange(8), said] = 0.8
    output = {
        "[T, C]": scores[None], "[C, T]": scores.T[None], "[T, 1, C]": scores[:, None],
        "classes": said[None],
    }[layout]  # fmt: skip
    for blank, target, wanted in (
        (0, [3, 3, 1, -1], 0.0),
        (0, [3, 1, -1, -1], 0.5),
        (None, said.tolist(), 0.0),
        (None, [3, 3, 1, -1], 5 / 3),
    ):
        wish = Evaluate(metric="cer", blank=blank)
        score = Yardstick("cer", "out", wish).score()
        score.add({"out": output}, np.array(target))
        assert score.value == pytest.approx(wanted), (blank, target)


def test_cer_without_any_length_is_the_number_of_edits() -> None:
    assert scored("cer", np.array([[-1, -1]]), np.array([[-1, -1]])) == 0
    assert scored("cer", np.array([[3, 2]]), np.array([[-1, -1]])) == 2


def test_a_blank_that_is_no_class_is_refused() -> None:
    with pytest.raises(DatasetMismatch, match="blank 7"):
        scored("cer", np.zeros((1, 4, 5), np.float32), np.array([[1, 2]]), blank=7)


@pytest.mark.parametrize(
    ("metric", "targets"),
    [
        ("cer", np.zeros(3, np.int64)),
        ("cer", np.zeros((3, 2), np.float32)),
        ("cosine", np.zeros((3, 1), np.float32)),
        ("cosine", np.zeros(3, np.float32)),
    ],
)
def test_targets_of_another_form_are_refused(metric: Metric, targets: np.ndarray) -> None:
    with pytest.raises(DatasetMismatch, match=f"'{metric}' needs"):
        quality.infer(targets, Evaluate(metric=metric))


def two_outputs() -> ir.Model:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[n, 3] x) => (float[n, 3] scores, float[n, 3] boxes) {
            scores = Relu (x)  boxes = Neg (x)
        }"""
    )
    return ir.serde.deserialize_model(proto)


def test_the_first_output_is_judged_or_the_one_that_is_named() -> None:
    assert quality.judged_output(two_outputs(), Evaluate()) == "scores"
    assert quality.judged_output(two_outputs(), Evaluate(output="boxes")) == "boxes"
    with pytest.raises(DatasetMismatch, match="no output 'box' to evaluate; it has: scores, boxes"):
        quality.judged_output(two_outputs(), Evaluate(output="box"))


def test_a_yardstick_is_of_the_judged_output_and_there_is_none_without_targets() -> None:
    wish = Evaluate(output="boxes")
    found = quality.yardstick(two_outputs(), np.array([0.5]), wish)
    assert found == Yardstick("mse", "boxes", wish)
    assert quality.yardstick(two_outputs(), None, wish) is None
    assert quality.judge(two_outputs(), np.array([0.5]), wish, None, threads=1) == found


@pytest.mark.parametrize("higher", [True, False])
def test_a_graph_of_ones_own_judges_where_it_is_there(tmp_path: Path, higher: bool) -> None:
    graph = tmp_path / "metric.onnx"
    onnx.save(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["": 21]>
            m (float[n, 3] scores) => (float[n] y) <int64[1] axes = {1}> {
                y = ReduceSum <keepdims = 0> (scores, axes)
            }"""
        ),
        graph,
    )
    metric = {"model": "mdl_" + "0" * 24}
    wish = Evaluate.model_validate({"metric": metric, "higher_is_better": higher})
    found = quality.judge(two_outputs(), None, wish, graph, threads=1)
    assert isinstance(found, GraphMetric)
    assert found.kind == ("gain" if higher else "error")
    assert found.metric == metric["model"]
    assert quality.judge(two_outputs(), None, wish, None, threads=1) is None
    named = Evaluate(metric="mse")
    assert quality.judge(two_outputs(), np.array([0.5]), named, graph, threads=1) == Yardstick(
        "mse", "scores", named
    )
