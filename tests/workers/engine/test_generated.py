"""Jobs without data: samples are made from the model, and the report says so."""

from pathlib import Path

from tests.workers.engine.conftest import Run, report_of

STATIC = {"method": "quantize", "mode": "static", "force": True}


def test_static_quantization_without_data(exported: dict[str, Path], job: Run) -> None:
    """Calibration samples are made; the report says what it was measured on."""
    report = report_of(job(exported["mlp"], STATIC, generated=True))
    assert report.step_reports[0].changed
    evaluation = report.evaluation
    assert evaluation.split == "generated"
    assert evaluation.generated is not None
    assert evaluation.generated.samples >= 16
    assert report.compressed.quality is None
    assert report.compressed.fidelity is not None
    assert report.manifest.data == "generated"
    assert report.verdict.count("not measured on real data") == 1


def test_made_samples_calibrate_and_real_ones_judge(
    exported: dict[str, Path], digits_npz: Path, job: Run
) -> None:
    """A step sees made samples; quality is measured where a dataset to judge on is named."""
    step = {"method": "prune", "ratio": 0.3, "criterion": "apoz"}
    judged = {"judged": digits_npz, "evaluate": {"dataset": "dst_judge"}}
    report = report_of(job(exported["mlp"], step, generated=True, **judged))
    assert report.evaluation.split == "held_out"
    assert report.evaluation.generated is not None
    assert report.compressed.quality is not None
    assert "real data" not in report.verdict
