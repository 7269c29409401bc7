"""A job directory in, a smaller model and an honest report out: on real trained models."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from app.domain.directory import TIDIED, Result
from tests.workers.engine.conftest import Run, report_of
from tests.workers.intake import models
from workers.compression.__main__ import main
from workers.compression.measure import verdict

STATIC = {"method": "quantize", "mode": "static", "force": True}
DYNAMIC = {"method": "quantize", "mode": "dynamic", "force": True}
FLOAT16 = {"method": "quantize", "mode": "float16", "force": True}


def artifact(tmp_path: Path, name: str = "job") -> Path:
    return tmp_path / name / "artifacts" / "model.onnx"


@pytest.mark.parametrize("model", ["cnn", "mlp", "vit"])
@pytest.mark.parametrize(
    ("step", "smallest"), [(STATIC, 2.0), (FLOAT16, 1.6)], ids=["static", "float16"]
)
def test_a_trained_model_gets_smaller_and_keeps_its_accuracy(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path,
    model: str, step: dict[str, str], smallest: float,
) -> None:  # fmt: skip
    report = report_of(job(exported[model], step, data=digits_npz))
    before, after = report.baseline, report.compressed
    assert before.size_bytes == exported[model].stat().st_size
    assert after.size_bytes == artifact(tmp_path).stat().st_size
    assert before.size_bytes / after.size_bytes > smallest
    assert before.quality is not None
    assert after.quality is not None
    assert before.quality.value > 0.9
    assert before.quality.value - after.quality.value <= 0.015
    assert after.fidelity is not None
    assert after.fidelity.agreement > 0.97
    assert (after.parameters, after.macs) == (before.parameters, before.macs)


@pytest.mark.parametrize("model", ["mlp", "vit"])
def test_dynamic_quantization_needs_no_data(
    job: Run, exported: dict[str, Path], model: str
) -> None:
    report = report_of(job(exported[model], DYNAMIC))
    assert report.evaluation.split == "synthetic"
    assert report.compressed.quality is None
    assert report.compressed.fidelity is not None
    assert report.compressed.fidelity.sqnr_db is not None
    assert report.compressed.fidelity.sqnr_db > 20
    assert report.baseline.size_bytes / report.compressed.size_bytes > 2
    assert "There is no data, so we compared with the original" in report.verdict


@pytest.mark.parametrize("model", ["cnn", "mlp", "vit"])
@pytest.mark.parametrize("step", [STATIC, DYNAMIC, FLOAT16], ids=["static", "dynamic", "float16"])
def test_inputs_outputs_and_dynamic_dimensions_survive(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path,
    model: str, step: dict[str, str],
) -> None:  # fmt: skip
    job(exported[model], step, data=digits_npz)
    before, after = (onnx.load(path).graph for path in (exported[model], artifact(tmp_path)))
    assert [(i.name, i.type) for i in after.input] == [(i.name, i.type) for i in before.input]
    assert [(o.name, o.type) for o in after.output] == [(o.name, o.type) for o in before.output]
    session = ort.InferenceSession(artifact(tmp_path), providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((3, 1, 8, 8), np.float32)})[0].shape == (3, 10)


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("activations", ["int8", "uint8", "int16", "none"])
def test_every_combination_of_types_and_ranges_runs_and_agrees(
    job: Run, exported: dict[str, Path], digits_npz: Path, ranges: str, activations: str
) -> None:
    step = {**STATIC, "ranges": ranges, "activations": activations}
    report = report_of(job(exported["cnn"], step, data=digits_npz))
    assert report.compressed.fidelity is not None
    assert report.compressed.fidelity.agreement > 0.9
    assert report.compressed.size_bytes < report.baseline.size_bytes


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("weights", ["int8", "uint8"])
def test_every_form_of_weights_agrees(
    job: Run, exported: dict[str, Path], digits_npz: Path,
    symmetric: bool, per_channel: bool, weights: str,
) -> None:  # fmt: skip
    step = {**STATIC, "symmetric": symmetric, "per_channel": per_channel, "weights": weights}
    report = report_of(job(exported["cnn"], step, data=digits_npz))
    assert report.compressed.fidelity is not None
    assert report.compressed.fidelity.agreement > 0.9
    (done,) = report.step_reports
    assert all(weights in layer.change for layer in done.layers)
    assert all((layer.sqnr_db or 99) > 25 for layer in done.layers)
    assert all(layer.bytes_after < layer.bytes_before for layer in done.layers)


def _fused(path: Path, scratch: Path) -> list[str]:
    """Return the operators that are left when onnxruntime has loaded a graph."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(scratch / "fused.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(scratch / "fused.onnx").graph.node]


def test_convolutions_compute_in_int8(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    """onnxruntime fuses every pair: no float convolution and no float product is left."""
    job(exported["cnn"], STATIC, data=digits_npz)
    operators = _fused(artifact(tmp_path), tmp_path)
    assert operators.count("QLinearConv") == 4
    assert "QGemm" in operators
    assert not {"Conv", "FusedConv", "Gemm", "MatMul", "Relu", "Clip"} & set(operators)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_weights_alone_are_computed_once_and_cost_no_time_in_a_run(
    job: Run, exported: dict[str, Path], tmp_path: Path, weights: str
) -> None:
    step = {**STATIC, "activations": "none", "weights": weights}
    report = report_of(job(exported["cnn"], step))
    assert report.compressed.parameters == report.baseline.parameters
    left = _fused(artifact(tmp_path), tmp_path)
    assert not {"DequantizeLinear", "Cast"} & set(left)
    assert len(left) == len(_fused(exported["cnn"], tmp_path))


def test_ignored_layers_stay_in_float_and_say_so(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    (whole,) = report_of(job(exported["cnn"], STATIC, data=digits_npz)).step_reports
    first, *others = [layer.node for layer in whole.layers]
    step = {**STATIC, "ignore": [first]}
    (partly,) = report_of(job(exported["cnn"], step, data=digits_npz, name="partly")).step_reports
    assert [layer.node for layer in partly.layers] == others
    assert [(s.node, s.reason) for s in partly.skipped] == [(first, "named in 'ignore'")]


def test_what_dynamic_mode_leaves_alone_is_reported_and_the_verdict_says_so(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    step = {**DYNAMIC, "ignore": ["*"]}
    report = job(exported["cnn"], step, data=digits_npz).report
    assert report is not None
    assert report.step_reports[0].layers == []
    assert len(report.step_reports[0].skipped) == 5
    first = report.step_reports[0].skipped[0].node
    reason = f"Step 1 (quantize): named in 'ignore' (5 nodes, '{first}' first)."
    assert report.verdict == f"Nothing was changed. {reason}"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_need_not(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    step = {**STATIC, "calibration_samples": 16}
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        job(exported["vit"], step, data=digits_npz, seed=seed, name=name)
    one, two, other = (artifact(tmp_path, n).read_bytes() for n in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_a_finished_step_is_not_repeated(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    job(exported["cnn"], STATIC, data=digits_npz)
    whole = artifact(tmp_path).read_bytes()
    graph = tmp_path / "job" / "steps" / "01-quantize" / "graph.onnx"
    stamp = graph.stat().st_mtime_ns
    for name in ("result.json", "events.jsonl", "artifacts/model.onnx"):
        (tmp_path / "job" / name).unlink()
    report_of(job(exported["cnn"], STATIC, data=digits_npz))
    assert graph.stat().st_mtime_ns == stamp
    assert artifact(tmp_path).read_bytes() == whole


def test_a_step_without_its_report_is_done_again_to_the_same_bytes(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    job(exported["cnn"], STATIC, data=digits_npz)
    whole = artifact(tmp_path).read_bytes()
    own = tmp_path / "job" / "steps" / "01-quantize"
    (own / "report.json").unlink()
    (own / "graph.onnx").write_bytes(b"half a graph")
    job(exported["cnn"], STATIC, data=digits_npz)
    assert artifact(tmp_path).read_bytes() == whole


def test_a_missed_requirement_keeps_report_and_artifacts(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    step = {"method": "prune", "granularity": "unstructured", "sparsity": 0.95}
    result = job(exported["cnn"], step, data=digits_npz, require={"max_quality_drop": 0.001})
    assert result.problem is not None
    assert result.problem.type == "quality-below-requirement"
    assert result.report is not None
    assert "MISSED" in result.report.verdict
    assert [a.path for a in result.artifacts] == ["model.onnx"]
    assert artifact(tmp_path).exists()


def test_a_requirement_is_met_by_leaving_layers_in_float(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    step = {**STATIC, "ranges": "percentile", "percentile": 80}
    free = report_of(job(exported["cnn"], step, data=digits_npz, name="free"))
    bound = {"max_quality_drop": 0.05}
    kept = report_of(job(exported["cnn"], step, data=digits_npz, require=bound, name="bound"))
    assert verdict.drop(free.baseline, free.compressed) > 0.05
    assert verdict.drop(kept.baseline, kept.compressed) <= 0.05
    reasons = [each.reason for each in kept.step_reports[0].skipped]
    assert any(
        reason.startswith("left in float to keep the drop within 0.05") for reason in reasons
    )


def test_held_out_samples_are_named_and_none_of_them_calibrates(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    """Samples that are spoilt where they are held out leave the artifact as it was."""
    report = report_of(job(exported["cnn"], STATIC, data=digits_npz, name="clean"))
    held_out = report.evaluation.indices
    assert len(held_out) == report.compressed.quality.samples  # type: ignore[union-attr]
    with np.load(digits_npz) as arrays:
        images, targets = arrays["image"].copy(), arrays["targets"]
    images[held_out] *= 1000
    spoilt = tmp_path / "spoilt.npz"
    np.savez(spoilt, allow_pickle=False, image=images, targets=targets)
    job(exported["cnn"], STATIC, data=spoilt, name="spoilt")
    assert artifact(tmp_path, "clean").read_bytes() == artifact(tmp_path, "spoilt").read_bytes()


def test_data_without_targets_gives_agreement_and_no_quality(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    unlabelled = tmp_path / "unlabelled.npz"
    with np.load(digits_npz) as arrays:
        np.savez(unlabelled, allow_pickle=False, image=arrays["image"])
    result = job(exported["cnn"], STATIC, data=unlabelled, require={"max_quality_drop": 0.05})
    report = report_of(result)
    assert report.evaluation.metric is None
    assert report.evaluation.split == "held_out"
    assert report.compressed.quality is None
    assert "There are no labels, so we compared with the original: " in report.verdict


def test_progress_never_falls_and_ends_at_one(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    job(exported["cnn"], STATIC, data=digits_npz)
    lines = (tmp_path / "job" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    progress = [event["progress"] for event in events if event["kind"] == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert [event["index"] for event in events if event["kind"] == "step"] == [0]


def test_latency_and_memory_are_measured_on_both_and_the_manifest_names_the_bytes(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    report = report_of(job(exported["mlp"], STATIC, data=digits_npz, apart=True))
    latency = report.evaluation.latency
    assert latency is not None
    for spread in (latency.original, latency.compressed):
        assert 0 < spread.p10 <= spread.median <= spread.p90
        assert spread.runs >= 5
    assert report.baseline.latency_ms == latency.original.median
    assert (report.baseline.peak_memory_bytes or 0) > 1 << 20
    assert (report.compressed.peak_memory_bytes or 0) > 1 << 20
    assert report.evaluation.threads == 1
    assert len(report.manifest.artifacts["model.onnx"]) == 64
    assert report.manifest.versions["onnxruntime"] == ort.__version__


@pytest.mark.parametrize(
    ("order", "kind", "words"),
    [
        ({"evaluate": {"output": "nothing"}}, "dataset-mismatch", "it has: logits"),
        ({"deliver": ["litert"]}, "not-available", "use 'onnx'"),
    ],
)
def test_what_cannot_be_done_is_a_problem_that_says_what_can(
    job: Run, exported: dict[str, Path], digits_npz: Path,
    order: dict[str, object], kind: str, words: str,
) -> None:  # fmt: skip
    result = job(exported["mlp"], STATIC, data=digits_npz, **order)
    assert result.problem is not None
    assert result.problem.type == kind
    assert words in result.problem.detail


def test_static_quantization_without_data_says_what_to_do(
    job: Run, exported: dict[str, Path]
) -> None:
    result = job(exported["mlp"], STATIC)
    assert result.problem is not None
    assert result.problem.type == "step-failed"
    assert "mode 'dynamic'" in result.problem.detail


def test_a_graph_that_is_fixed_to_a_batch_is_timed_on_that_batch(job: Run, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    products = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"]),
        onnx.helper.make_node("MatMul", ["h", "w2"], ["y"]),
    ]
    fixed = models.model(
        products,
        [models.value("x", 4, 256)],
        [models.value("y", 4, 256)],
        [models.tensor("w", weight), models.tensor("w2", weight.T)],
    )
    data = tmp_path / "data.npz"
    np.savez(data, allow_pickle=False, x=weight[:64])
    step = {"method": "low_rank", "of": "latency", "ratio": 0.01, "rank": "ratio"}
    result = job(models.write(fixed, tmp_path / "fixed.onnx"), step, data=data)
    assert result.problem is None or result.problem.type == "step-failed"


def test_targets_of_another_shape_are_a_mismatch_that_names_the_output(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.npz"
    with np.load(digits_npz) as arrays:
        targets = np.zeros((len(arrays["image"]), 3), np.float32)
        np.savez(odd, allow_pickle=False, image=arrays["image"], targets=targets)
    result = job(exported["mlp"], STATIC, data=odd)
    assert result.problem is not None
    assert result.problem.type == "dataset-mismatch"
    assert "'logits'" in result.problem.detail


def test_an_order_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    for text in (None, "{", '{"kind": "compress", "steps": [{"method": "melt"}]}'):
        if text is not None:
            (tmp_path / "job.json").write_text(text)
        assert main(tmp_path) == 0
        result = Result.model_validate_json((tmp_path / "result.json").read_bytes())
        assert result.problem is not None
        assert result.problem.type == "invalid"


def test_a_worker_describes_itself(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"kind": "describe"}')
    assert main(tmp_path) == 0
    result = Result.model_validate_json((tmp_path / "result.json").read_bytes())
    assert result.capabilities is not None
    target, *_ = result.capabilities.targets
    assert (target.target, target.runtime, target.version) == (
        "onnx", "onnxruntime", ort.__version__,
    )  # fmt: skip
    assert target.devices[0].threads >= 1
    assert result.capabilities.machine.memory_bytes > 1 << 28


def test_speed_without_any_change_of_weights_is_told_apart(job: Run, tmp_path: Path) -> None:
    """An exporter that leaves normalisation apart has the service fold it, whatever the steps."""
    size = (8, 8)
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    weights = {"w": weight, "s": 2 * ones, "b": zeros, "m": zeros, "v": ones}
    tensors = [models.tensor(name, array) for name, array in weights.items()]
    inputs, outputs = models.value("x", "N", 3, *size), models.value("y", "N", 4, 6, 6)
    path = tmp_path / "unfolded.onnx"
    onnx.save(models.model(nodes, [inputs], [outputs], tensors), path)
    latency = report_of(job(path, FLOAT16, threads=2)).evaluation.latency
    assert latency is not None
    assert latency.tidied is not None
    assert latency.tidied.original == latency.original, "of the same rounds"
    assert dict(latency.tidied) != {name: dict(latency)[name] for name in dict(latency.tidied)}
    assert latency.one_thread is not None
    assert latency.one_thread.tidied is not None
    assert (tmp_path / "job" / TIDIED).exists()
