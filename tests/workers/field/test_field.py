"""Each graph comes out as it should."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from app.domain.reports import Fidelity, Report
from tests.workers.field import graphs
from tests.workers.field.conftest import Compress

STATIC = {"method": "quantize", "mode": "static", "force": True}
DYNAMIC = {"method": "quantize", "mode": "dynamic", "force": True}
HALF = {"method": "quantize", "mode": "float16", "force": True}


def _fidelity(report: Report) -> Fidelity:
    assert report.compressed.fidelity is not None
    return report.compressed.fidelity


def _changed(report: Report) -> dict[str, str]:
    return {layer.node: layer.change for layer in report.step_reports[-1].layers}


def _answers(field: graphs.Field, artifact: Path) -> list[np.ndarray]:
    """Return the outputs for all samples, one by one."""
    session = ort.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    rows = range(len(next(iter(field.data.values()))))
    runs = (session.run(None, {n: a[i : i + 1] for n, a in field.data.items()}) for i in rows)
    return [np.concatenate(each) for each in zip(*runs, strict=True)]


def test_masks_and_epsilons_that_half_does_not_have_stay_in_float32(
    compress: Compress, tmp_path: Path
) -> None:
    field = graphs.masked_by_the_lowest_number()
    report = compress(field, HALF)
    assert (_fidelity(report).sqnr_db or 0) > 40
    assert len(_changed(report)) == 4
    (answers,) = _answers(field, tmp_path / "job" / "artifacts" / "model.onnx")
    assert np.isfinite(answers).all()


def test_the_scales_of_a_resize_are_float32_by_the_standard(compress: Compress) -> None:
    report = compress(graphs.resized(), HALF)
    assert (_fidelity(report).sqnr_db or 0) > 40
    assert len(_changed(report)) == 2
    assert report.step_reports[-1].skipped == []


MODES = {
    "static": STATIC,
    "dynamic": DYNAMIC,
    "float16": HALF,
    "blocks": STATIC | {"mode": "weight_only", "block_size": 16},
    "trained": STATIC | {"mode": "qat", "recover": {"epochs": 1}},
}


@pytest.mark.parametrize("mode", MODES)
def test_both_branches_of_a_merged_decoder_are_quantized_and_their_weights_stored_once(
    compress: Compress, mode: str
) -> None:
    report = compress(graphs.merged_decoder(), MODES[mode])
    assert (_fidelity(report).sqnr_db or 0) > 30
    assert {node.split("_")[0] for node in _changed(report)} == {"cached", "fresh"}
    assert report.compressed.size_bytes < report.baseline.size_bytes
    reasons = [skipped.reason for skipped in report.step_reports[-1].skipped]
    tied = "its weight is computed from one that others read as it is"
    assert reasons.count(tied) == (0 if mode == "float16" else 2)


def test_sequences_are_taken_in_and_halved(compress: Compress) -> None:
    report = compress(graphs.sequences(), HALF)
    assert (_fidelity(report).sqnr_db or 0) > 40
    assert len(_changed(report)) == 3
    assert report.compressed.size_bytes < 0.7 * report.baseline.size_bytes


@pytest.mark.parametrize(
    ("step", "changed"), [(STATIC, 4), (DYNAMIC, 3)], ids=["static", "dynamic"]
)
def test_rows_of_padding_that_are_not_finite_spoil_no_range(
    compress: Compress, step: dict[str, str], changed: int, tmp_path: Path
) -> None:
    """At run time a range is found with the padding: the product that reads it stays in float."""
    field = graphs.padded_rows()
    report = compress(field, step)
    assert len(_changed(report)) == changed
    assert (_fidelity(report).sqnr_db or 0) > 25
    (answers,) = _answers(field, tmp_path / "job" / "artifacts" / "model.onnx")
    assert np.isfinite(answers).all()


@pytest.mark.parametrize("method", ["prune", "cluster", "qat"])
def test_rows_of_padding_that_are_not_finite_spoil_no_training(
    compress: Compress, method: str
) -> None:
    """Zero times NaN, on the way back, would be NaN in every weight."""
    steps: dict[str, dict[str, Any]] = {
        "prune": {"method": "prune", "ratio": 0.2},
        "cluster": {"method": "cluster"},
        "qat": {"method": "quantize", "mode": "qat"},
    }
    report = compress(graphs.padded_rows(), steps[method] | {"recover": {"epochs": 1}})
    assert len(_changed(report)) == 4
    assert (_fidelity(report).explained or 0) > 0.5


def test_transposed_convolutions_in_groups_are_trained_with_a_scale_a_channel(
    compress: Compress,
) -> None:
    field = graphs.grouped_transposed()
    calibrated = compress(field, STATIC, name="calibrated")
    training = {"method": "quantize", "mode": "qat", "recover": {"epochs": 1}}
    trained = compress(field, training, name="trained")
    for report in (calibrated, trained):
        assert sum("ConvTranspose" in node for node in _changed(report)) == 2
        assert all("per channel" in change for change in _changed(report).values())
    assert (_fidelity(trained).sqnr_db or 0) >= (_fidelity(calibrated).sqnr_db or 0) > 25


TRAINED = {"recover": {"epochs": 1}}
PRUNED = {"method": "prune", "ratio": 0.3}


@pytest.mark.parametrize(
    ("steps", "share"),
    [
        ([STATIC], 1.1),  # of five thousand weights; nodes and their names take as much
        ([STATIC | {"mode": "qat"} | TRAINED], 1.1),
        ([PRUNED | TRAINED], 0.9),
        ([PRUNED, HALF], 0.9),
        ([{"method": "cluster"} | TRAINED], 1.0),
        ([{"method": "distill", "student": {"derive": {"width": 0.5}}} | TRAINED], 0.8),
    ],
    ids=["static", "qat", "pruned", "pruned and halved", "clustered", "distilled"],
)
def test_what_was_uploaded_in_half_goes_through_every_method_and_grows_in_none(
    compress: Compress, steps: list[dict[str, Any]], share: float, tmp_path: Path
) -> None:
    field = graphs.uploaded_in_half()
    report = compress(field, *steps)
    assert report.step_reports[-1].layers or steps[0]["method"] == "distill"
    assert report.compressed.size_bytes < share * report.baseline.size_bytes
    session = ort.InferenceSession(tmp_path / "job" / "artifacts" / "model.onnx")
    assert {end.type for end in (*session.get_inputs(), *session.get_outputs())} == {
        "tensor(float16)"
    }
    if steps == [STATIC]:
        assert len(_changed(report)) == 3
        assert (_fidelity(report).sqnr_db or 0) > 35


BIAS = 4 * 32
"""What is so small stays in float32."""


@pytest.mark.parametrize(
    ("step", "extra"),
    [
        (STATIC, 0),
        (DYNAMIC | {"operators": ["Conv", "Gemm"]}, None),
        ({"method": "cluster"}, 0),
        (PRUNED | {"granularity": "unstructured"}, 0),
        (PRUNED, BIAS),
        ({"method": "low_rank", "ratio": 0.2}, 0),
    ],
    ids=["static", "dynamic", "clustered", "zeros", "channels", "low rank"],
)
def test_the_weights_of_what_was_uploaded_in_half_are_counted_as_they_are_stored(
    compress: Compress, step: dict[str, Any], extra: int | None
) -> None:
    [done] = compress(graphs.uploaded_in_half(), step).step_reports
    sizes = {layer.operator: (layer.bytes_before, layer.bytes_after) for layer in done.layers}
    if extra is None:
        assert sizes["Gemm"][0] == 2 * 32 * 10
        return
    before, after = sizes["Conv"]
    assert before == 2 * 32 * 16 * 3 * 3 + extra
    assert after < before
    assert all("float32" not in layer.change for layer in done.layers)


def test_float64_beside_trees_is_quantized(compress: Compress) -> None:
    report = compress(graphs.doubles_and_trees(), DYNAMIC)
    assert len(_changed(report)) == 2
    assert (_fidelity(report).sqnr_db or 0) > 40
