"""What a result is judged on: a part of the job's data, or a dataset of its own."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.workers.engine.conftest import Run, report_of
from tests.workers.intake.models import convnet, write

Digits = tuple[NDArray[np.float32], NDArray[np.int64]]

STATIC = {"method": "quantize", "mode": "static", "force": True, "calibration_samples": 64}
OWN = {"evaluate": {"dataset": "dst_new"}}


def _stored(path: Path, digits: Digits, rows: slice, *, targets: bool = True) -> Path:
    images, classes = (array[rows] for array in digits)
    np.savez(path, allow_pickle=False, image=images, **({"targets": classes} if targets else {}))
    return path


def test_a_dataset_of_its_own_is_judged_on_as_a_whole(
    job: Run, exported: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    data = _stored(tmp_path / "data.npz", digits, slice(0, 100))
    judged = _stored(tmp_path / "judged.npz", digits, slice(100, 150))
    report = report_of(job(exported["mlp"], STATIC, data=data, judged=judged, **OWN))
    assert (report.evaluation.split, report.evaluation.dataset) == ("held_out", "dst_new")
    assert report.evaluation.indices == list(range(50))
    assert report.baseline.quality is not None
    assert report.baseline.quality.samples == 50
    assert any("dataset dst_new" in note for note in report.evaluation.notes)
    manifest = report.manifest
    assert manifest.evaluate["dataset"] == "dst_new"
    assert manifest.evaluate_dataset_sha256 not in {None, manifest.dataset_sha256}


def test_the_whole_dataset_of_the_job_calibrates_then(
    job: Run, exported: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    """An outlier in the last row widens the ranges, whichever part would have been held out.

    The step has nothing to choose, so that it sets no samples aside for comparing either.
    """
    images, classes = (array[:20].copy() for array in digits)
    judged = _stored(tmp_path / "judged.npz", digits, slice(100, 150))
    step = {**STATIC, "ranges": "minmax"}
    step |= dict.fromkeys(("smooth", "equalize", "correct_bias", "learn_rounding"), False)
    fidelity = []
    for scale in (1, 1000):
        images[-1] *= scale
        data = tmp_path / f"data{scale}.npz"
        np.savez(data, allow_pickle=False, image=images, targets=classes)
        for seed in (0, 1):
            name = f"job{scale}-{seed}"
            result = job(
                exported["mlp"], step, data=data, judged=judged, seed=seed, name=name, **OWN
            )
            found = report_of(result).compressed.fidelity
            assert found is not None
            assert found.sqnr_db is not None
            fidelity.append(found.sqnr_db)
    plain, disturbed = fidelity[:2], fidelity[2:]
    assert max(disturbed) < min(plain) - 20


def test_without_one_the_report_says_that_the_original_may_know_the_samples(
    job: Run, exported: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    data = _stored(tmp_path / "data.npz", digits, slice(0, 100))
    report = report_of(job(exported["mlp"], STATIC, data=data))
    assert report.evaluation.dataset is None
    assert len(report.evaluation.indices) == 20
    [note] = [note for note in report.evaluation.notes if "the job's own dataset" in note]
    assert "If the original was trained on them" in note
    assert "'evaluate.dataset'" in note


def test_the_report_says_for_which_sizes_the_figures_hold(job: Run, tmp_path: Path) -> None:
    """Of pictures of any size, inspection counts one size and a job that of its own samples."""
    data = tmp_path / "data.npz"
    pictures = np.random.default_rng(0).normal(size=(20, 3, 40, 24)).astype(np.float32)
    np.savez(data, allow_pickle=False, x=pictures)
    model = write(convnet(), tmp_path / "model.onnx")
    report = report_of(
        job(model, {"method": "prune", "sparsity": 0.5, "granularity": "unstructured"}, data=data)
    )
    assert report.evaluation.sample_sizes == {"H": 40, "W": 24}
    assert report.baseline.macs == 6 * 3 * 9 * 40 * 24 + 6 * 5


def test_samples_that_the_job_s_dataset_holds_too_are_left_out(
    job: Run, exported: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    data = _stored(tmp_path / "data.npz", digits, slice(0, 100))
    judged = _stored(tmp_path / "judged.npz", digits, slice(90, 150))
    report = report_of(job(exported["mlp"], STATIC, data=data, judged=judged, **OWN))
    assert report.evaluation.indices == list(range(10, 60))
    assert any(note.startswith("10 of its samples") for note in report.evaluation.notes)
    judged = _stored(tmp_path / "judged.npz", digits, slice(10, 20))
    problem = job(exported["mlp"], STATIC, data=data, judged=judged, name="all", **OWN).problem
    assert problem is not None
    assert problem.type == "dataset-mismatch"
    assert "Every sample" in problem.detail


def test_targets_of_either_dataset_may_be_missing(
    job: Run, exported: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    """Steps learn from the original where only the other dataset has targets."""
    data = _stored(tmp_path / "data.npz", digits, slice(0, 100), targets=False)
    judged = _stored(tmp_path / "judged.npz", digits, slice(100, 150))
    step = {
        "method": "prune",
        "ratio": 0.3,
        "recover": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
    }
    wish = {"evaluate": {"dataset": "dst_new", "metric": "top1"}}
    report = report_of(job(exported["mlp"], step, data=data, judged=judged, **wish))
    assert report.compressed.quality is not None
    assert report.compressed.quality.metric == "top1"
    data = _stored(tmp_path / "data.npz", digits, slice(0, 100))
    judged = _stored(tmp_path / "judged.npz", digits, slice(100, 150), targets=False)
    report = report_of(job(exported["mlp"], STATIC, data=data, judged=judged, name="bare", **OWN))
    assert report.compressed.quality is None
    assert report.compressed.fidelity is not None


def test_a_dataset_that_is_not_there_or_does_not_fit_is_a_problem(
    job: Run, exported: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    data = _stored(tmp_path / "data.npz", digits, slice(0, 100))
    problem = job(exported["mlp"], STATIC, data=data, **OWN).problem
    assert problem is not None
    assert (problem.type, "'evaluate-dataset'" in problem.detail) == ("invalid-dataset", True)
    judged = tmp_path / "judged.npz"
    np.savez(judged, allow_pickle=False, picture=digits[0][:10])
    problem = job(exported["mlp"], STATIC, data=data, judged=judged, name="misfit", **OWN).problem
    assert problem is not None
    assert (problem.type, "'image'" in problem.detail) == ("dataset-mismatch", True)


def test_a_job_without_data_of_its_own_is_judged_on_the_dataset_alone(
    job: Run, exported: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    judged = _stored(tmp_path / "judged.npz", digits, slice(100, 150))
    step = {"method": "quantize", "mode": "dynamic", "force": True}
    report = report_of(job(exported["mlp"], step, judged=judged, **OWN))
    assert report.manifest.dataset_sha256 is None
    assert report.baseline.quality is not None
    assert report.baseline.quality.samples == 50


def test_a_job_whose_time_is_over_judges_on_a_few_samples(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    report = report_of(job(exported["mlp"], STATIC, data=digits_npz, seconds=1e-6))
    assert len(report.evaluation.indices) == 32
    assert any("to bound the time" in note for note in report.evaluation.notes)
