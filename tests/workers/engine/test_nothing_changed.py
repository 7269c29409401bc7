"""A job that changes nothing says so and fails; a step of many that changes nothing says so."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ortq
import pytest
from numpy.typing import NDArray

from tests.workers.engine.conftest import Run, report_of
from tests.workers.intake import models

ONCE = {"epochs": 1}
DYNAMIC = {"method": "quantize", "mode": "dynamic", "force": True}
STEPS: dict[str, dict[str, Any]] = {
    "prune": {"method": "prune", "ratio": 0.3, "recover": ONCE},
    "zeros": {"method": "prune", "granularity": "unstructured", "recover": ONCE},
    "low_rank": {"method": "low_rank", "recover": ONCE},
    "cluster": {"method": "cluster", "recover": ONCE},
    "derived": {"method": "distill", "student": {"derive": {"width": 0.5}}, "recover": ONCE},
    "trained": {"method": "quantize", "mode": "qat", "recover": ONCE},
    "static": {"method": "quantize", "mode": "static", "force": True},
    "dynamic": DYNAMIC,
    "float16": {"method": "quantize", "mode": "float16", "force": True},
    "weight_only": {"method": "quantize", "mode": "weight_only"},
}


class Reader(ortq.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: NDArray[np.float32]) -> None:
        self._left = [{"image": images}]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return self._left.pop() if self._left else None


@pytest.fixture(scope="session")
def quantized(
    exported: dict[str, Path],
    digits: tuple[NDArray[np.float32], NDArray[np.int64]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The MLP in int8, as others write it."""
    directory = tmp_path_factory.mktemp("quantized")
    paths = {}
    for name in ("QDQ", "QOperator"):
        paths[name] = directory / f"{name}.onnx"
        form = getattr(ortq.QuantFormat, name)
        ortq.quantize_static(
            exported["mlp"], paths[name], Reader(digits[0][:32]), quant_format=form,
            per_channel=True,
        )  # fmt: skip
    return paths


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("step", STEPS)
def test_what_is_int8_already_stays_and_the_job_says_why(
    job: Run, quantized: dict[str, Path], digits_npz: Path, tmp_path: Path, form: str, step: str
) -> None:
    result = job(quantized[form], STEPS[step], data=digits_npz)
    assert result.problem is not None
    assert result.problem.type == "nothing-changed"
    assert f"Step 1 ({STEPS[step]['method']}): " in result.problem.detail
    assert "quantized already" in result.problem.detail
    assert result.report is not None
    [report] = result.report.step_reports
    assert not report.changed
    assert report.layers == []
    [note] = report.notes
    assert note.startswith("It changed nothing: ")
    assert result.report.verdict.startswith("Nothing was changed. ")
    [artifact] = result.artifacts
    directory = tmp_path / "job"
    kept = (directory / "artifacts" / artifact.path).read_bytes()
    assert kept == (directory / "original.onnx").read_bytes()
    assert len(kept) <= quantized[form].stat().st_size


def test_all_reasons_of_all_steps_are_in_the_problem(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    steps = [{"method": "prune", "ignore": ["*"]}, {**DYNAMIC, "ignore": ["*"]}]
    result = job(exported["mlp"], *steps, data=digits_npz)
    assert result.problem is not None
    assert result.problem.type == "nothing-changed"
    assert "Step 1 (prune): " in result.problem.detail
    assert "Step 2 (quantize): named in 'ignore' (3 nodes, '" in result.problem.detail
    assert "Try other parameters, or another method" in result.problem.detail
    assert "quantized already" not in result.problem.detail


def test_one_step_of_two_that_changes_nothing_says_so(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    idle = {"method": "prune", "ignore": ["*"]}
    report = report_of(job(exported["mlp"], idle, DYNAMIC, data=digits_npz))
    first, second = report.step_reports
    assert (first.changed, second.changed) == (False, True)
    assert len(first.notes) == 1
    assert second.notes == []
    assert "smaller" in report.verdict
    assert f"Step 1 (prune): {first.notes[0]}" in report.verdict


def test_a_step_that_makes_the_file_larger_says_so(job: Run, tmp_path: Path) -> None:
    """Scales and operators take more bytes than integers save of so few weights."""
    upload = models.write(models.mlp(), tmp_path / "small.onnx")
    report = report_of(job(upload, DYNAMIC))
    [step] = report.step_reports
    assert step.changed
    assert step.after.size_bytes > step.before.size_bytes
    [note] = step.notes
    assert note.startswith("It made the file LARGER: ")
    assert f"Step 1 (quantize): {note}" in report.verdict


def test_what_pays_may_be_nothing(job: Run, tmp_path: Path) -> None:
    """``auto`` succeeds with the model as it was, and the verdict says so."""
    upload = models.write(models.mlp(hidden=2), tmp_path / "small.onnx")
    result = job(upload, {"method": "quantize", "mode": "auto"})
    assert result.problem is None
    assert report_of(result).verdict.startswith("Nothing was changed.")
    assert len(result.artifacts) == 1


def test_a_file_for_users_holds_no_shapes_that_only_steps_read(job: Run, tmp_path: Path) -> None:
    upload = models.write(models.mlp(), tmp_path / "small.onnx")
    report_of(job(upload, DYNAMIC))
    step = onnx.load(tmp_path / "job" / "steps" / "01-quantize" / "graph.onnx")
    file = onnx.load(tmp_path / "job" / "artifacts" / "model.onnx")
    assert step.graph.value_info
    assert not file.graph.value_info
    assert file.graph.node == step.graph.node


def test_a_report_names_inputs_with_a_default_that_became_constants(
    job: Run, tmp_path: Path
) -> None:
    """Where nothing is changed, the artifact is the upload's graph, and they are inputs still."""
    proto = models.mlp()
    proto.graph.input.append(models.value("b2", 3))
    upload = models.write(proto, tmp_path / "upload.onnx")
    changed = report_of(job(upload, DYNAMIC, name="changed")).evaluation.notes
    kept = report_of(job(upload, steps=[], name="kept")).evaluation.notes
    words = "default value became constants of that value: 'b2'"
    assert [words in " ".join(notes) for notes in (changed, kept)] == [True, False]
