"""Steps one after the other: each gains on the one before, and the whole can be repeated."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from app.domain.reports import Report
from tests.workers.engine.conftest import Run
from workers.compression.samples.split import split

Steps = list[dict[str, Any]]

TRAINING: dict[str, Any] = {"epochs": 2, "learning_rate": 2e-3}
CHANNELS: dict[str, Any] = {"method": "prune", "ratio": 0.3}
ZEROS: dict[str, Any] = {"method": "prune", "granularity": "unstructured", "sparsity": 0.5}
THINNER: dict[str, Any] = {"method": "low_rank", "ratio": 0.2}
SHARED: dict[str, Any] = {"method": "cluster"}
STATIC: dict[str, Any] = {"method": "quantize", "mode": "static", "force": True}
PACKED: dict[str, Any] = {"method": "quantize", "mode": "weight_only"}
TRAINED: dict[str, Any] = {"method": "quantize", "mode": "qat", "recover": TRAINING}
WHOLE = [CHANNELS | {"recover": TRAINING}, THINNER, TRAINED]


def _report(job: Run, model: Path, data: Path, steps: Steps, name: str = "job") -> Report:
    result = job(model, *steps, data=data, name=name)
    assert result.problem is None, result.problem
    assert result.report is not None
    return result.report


def _artifact(tmp_path: Path, name: str = "job") -> Path:
    return tmp_path / name / "artifacts" / "model.onnx"


def _runs(path: Path) -> None:
    """Assert that a valid graph answers to a batch with finite numbers."""
    onnx.checker.check_model(str(path), full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"image": np.ones((3, 1, 8, 8), np.float32)})
    assert answer.shape == (3, 10)
    assert np.isfinite(answer).all()


def _lost(report: Report) -> float:
    before, after = report.baseline.quality, report.compressed.quality
    assert before is not None
    assert after is not None
    return before.value - after.value


@pytest.mark.parametrize(("model", "smaller"), [("cnn", 4), ("mlp", 5), ("vit", 4)])
def test_pruned_factorised_and_quantized_it_is_small_and_nearly_as_good(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path,
    model: str, smaller: float,
) -> None:  # fmt: skip
    """All three on a trained model: at most three points are lost."""
    report = _report(job, exported[model], digits_npz, WHOLE)
    _runs(_artifact(tmp_path))
    macs = [report.baseline.macs, *(each.after.macs for each in report.step_reports)]
    assert macs[0] * 0.75 > macs[1] > macs[2] == macs[3]
    assert all(each.layers for each in report.step_reports)
    assert report.baseline.size_bytes / report.compressed.size_bytes > smaller
    assert _lost(report) <= 0.03


def test_the_same_seed_gives_the_same_bytes_through_all_steps(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        _report(job, exported["cnn"], digits_npz, WHOLE, name)
    one, two = (_artifact(tmp_path, name).read_bytes() for name in ("one", "two"))
    assert one == two


def test_steps_that_were_finished_are_kept_and_the_others_are_done_again(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    """What a worker left of a pipeline is gone on with, to the same artifact."""
    _report(job, exported["cnn"], digits_npz, WHOLE)
    whole = _artifact(tmp_path).read_bytes()
    stored = sorted((tmp_path / "job" / "steps").glob("*/graph.onnx"))
    assert [path.parent.name for path in stored] == ["01-prune", "02-low_rank", "03-quantize"]
    stamps = [path.stat().st_mtime_ns for path in stored]
    _artifact(tmp_path).unlink()
    (stored[2].parent / "report.json").unlink()
    report = _report(job, exported["cnn"], digits_npz, WHOLE)
    changed = [path.stat().st_mtime_ns for path in stored]
    assert changed[:2] == stamps[:2]
    assert changed[2] > stamps[2]
    assert _artifact(tmp_path).read_bytes() == whole
    assert [each.method for each in report.step_reports] == ["prune", "low_rank", "quantize"]


PAIRS: dict[str, tuple[str, Steps, float]] = {
    "channels-static": ("vit", [CHANNELS, STATIC], 0.03),
    "channels-dynamic": ("mlp", [CHANNELS, STATIC | {"mode": "dynamic"}], 0.03),
    "channels-float16": ("cnn", [CHANNELS, STATIC | {"mode": "float16"}], 0.03),
    "channels-packed": ("vit", [CHANNELS, PACKED], 0.03),
    "channels-cluster": ("mlp", [CHANNELS, SHARED], 0.03),
    "channels-channels": ("cnn", [CHANNELS, CHANNELS], 0.08),
    "channels-zeros": ("mlp", [CHANNELS, ZEROS], 0.03),
    "zeros-channels": ("cnn", [ZEROS, CHANNELS], 0.03),
    "zeros-cluster": ("mlp", [ZEROS, SHARED], 0.03),
    "zeros-static": ("cnn", [ZEROS, STATIC], 0.03),
    "zeros-qat": ("mlp", [ZEROS, TRAINED], 0.03),
    "thinner-channels": ("mlp", [THINNER, CHANNELS], 0.03),
    "thinner-zeros": ("cnn", [THINNER, ZEROS], 0.03),
    "thinner-cluster": ("vit", [THINNER, SHARED], 0.03),
    "thinner-static": ("mlp", [THINNER, STATIC], 0.03),
    "thinner-float16": ("vit", [THINNER, STATIC | {"mode": "float16"}], 0.03),
    "thinner-thinner": ("cnn", [THINNER, THINNER], 0.03),
}
"""What may follow what, and the quality that may be lost, without any training but qat's."""


@pytest.mark.parametrize("pair", PAIRS)
def test_what_may_follow_a_step_gains_on_it(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path, pair: str
) -> None:
    model, steps, allowed = PAIRS[pair]
    report = _report(job, exported[model], digits_npz, steps)
    _runs(_artifact(tmp_path))
    before, after = (each.after for each in report.step_reports)
    if steps[1] is ZEROS:
        assert after.nonzero_parameters < 0.55 * before.nonzero_parameters
    else:
        assert after.size_bytes < before.size_bytes
    if steps[1] in (CHANNELS, THINNER):
        assert after.macs < 0.85 * before.macs
    assert _lost(report) <= allowed


def test_zeros_stay_zero_through_what_follows(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    """Sparse weights are clustered, calibrated and trained without filling them again."""
    for name, last in (("cluster", SHARED), ("static", STATIC), ("qat", TRAINED)):
        report = _report(job, exported["mlp"], digits_npz, [ZEROS, last], name)
        pruned, final = (each.after.nonzero_parameters for each in report.step_reports)
        assert final <= 1.01 * pruned


def test_what_is_held_out_takes_no_part_in_what_is_chosen(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    """Other images in place of the held-out ones change the verdict, and no byte of the result."""
    with np.load(digits_npz) as arrays:
        images, targets = arrays["image"], arrays["targets"]
    held = split(len(images), targets, 0).held_out
    images[held] = np.random.default_rng(0).random(images[held].shape, np.float32)
    np.savez(tmp_path / "other.npz", allow_pickle=False, image=images, targets=targets)
    one = _report(job, exported["cnn"], digits_npz, WHOLE, "one")
    two = _report(job, exported["cnn"], tmp_path / "other.npz", WHOLE, "two")
    assert _artifact(tmp_path, "one").read_bytes() == _artifact(tmp_path, "two").read_bytes()
    assert one.compressed.quality is not None
    assert two.compressed.quality is not None
    assert one.compressed.quality.value > 2 * two.compressed.quality.value
