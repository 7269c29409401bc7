"""On a GPU the engine computes what it computes on the CPU, within stated tolerances.

These tests run where there is a GPU: ``pytest -m gpu``. See docs/contributing.md.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.domain.directory import Result
from tests.workers import zoo
from tests.workers.executor import conformance
from workers.compression.executor import build
from workers.sandbox.limits import Limits
from workers.sandbox.server import Sandbox

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

OUTPUTS = 1e-2
"""Of an output's largest value: convolutions and products may use TF32."""
EXPLAINED = 0.05
"""Between the results of a training on either device, of the original's variance."""
STEPS: dict[str, dict[str, object]] = {
    "prune": {"method": "prune", "ratio": 0.3, "recover": {"epochs": 3}},
    "distill": {"method": "distill", "student": {"derive": {"width": 0.5}}},
    "qat": {"method": "quantize", "mode": "qat"},
    "low_rank": {"method": "low_rank", "ratio": 0.5},
    "taylor": {"method": "prune", "ratio": 0.3, "criterion": "taylor", "recover": None},
    "features": {
        "method": "distill",
        "student": {"derive": {"width": 0.5}},
        "losses": [{"kind": kind} for kind in ("soft_targets", "features", "attention")],
        "recover": {"epochs": 2},
    },
}
GIBIBYTE = 1 << 30
LIMITS = Limits(
    memory_bytes=16 * GIBIBYTE,
    cpu_seconds=None,
    file_bytes=GIBIBYTE,
    directory_bytes=4 * GIBIBYTE,
    processes=512,
    wall_seconds=120,
)


@pytest.fixture(autouse=True)
def free_memory() -> Iterator[None]:
    """Other processes get the memory that a test has used."""
    yield
    torch.cuda.empty_cache()


def test_the_standards_own_cases_pass_on_a_gpu() -> None:
    """Each case that passes on the CPU; products are computed in full precision here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = conformance.cases()
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            verdicts = [conformance.run(case, "cuda") for case in cases]
            failed = {verdict.case for verdict in verdicts if verdict.reason is not None}
            on_cpu = [conformance.run(case) for case in cases if case.name in failed]
    passed_on_cpu = {verdict.case for verdict in on_cpu if verdict.reason is None}
    reasons = {
        verdict.case: verdict.reason for verdict in verdicts if verdict.case in passed_on_cpu
    }
    assert not reasons, "\n".join(f"{case}: {str(why)[:200]}" for case, why in reasons.items())


@pytest.mark.parametrize("name", sorted(zoo.NETS))
def test_outputs_and_gradients_are_those_of_the_cpu(name: str) -> None:
    feeds = zoo.feeds(name, 4)
    found = {}
    for device in ("cpu", "cuda"):
        module = build(zoo.graph(name)).to(device)
        outputs = module({key: value.to(device) for key, value in feeds.items()})
        loss = torch.stack([output.float().square().mean() for output in outputs.values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.cpu() for p in module.parameters() if p.grad is not None]
        found[device] = [*(output.detach().cpu() for output in outputs.values()), *gradients]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        near = OUTPUTS * float(theirs.abs().max()) + 1e-6
        assert float((ours - theirs).abs().max()) <= near


@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_whole_job_ends_as_near_to_the_original_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    data = _images(tmp_path, 512)
    explained = {}
    for device, visible in (("cuda", None), ("cpu", "")):
        result = _run(tmp_path / device, data, STEPS[name], visible)
        assert result.report is not None, result.problem
        assert result.report.manifest.machine.device.startswith(device)
        assert result.report.compressed.fidelity is not None
        explained[device] = result.report.compressed.fidelity.explained
    assert explained["cuda"] == pytest.approx(explained["cpu"], abs=EXPLAINED)


@pytest.mark.parametrize("name", ["prune", "distill"])
def test_the_same_seed_gives_the_same_bytes_on_a_gpu(name: str, tmp_path: Path) -> None:
    data = _images(tmp_path, 256)
    runs = [_run(tmp_path / str(index), data, STEPS[name], None) for index in range(2)]
    first, second = (run.report.manifest.artifacts for run in runs if run.report is not None)
    assert first == second


def test_samples_are_made_on_a_gpu(tmp_path: Path) -> None:
    step: dict[str, object] = {"method": "quantize", "mode": "static"}
    result = _run(tmp_path / "job", None, step, None, data="generated")
    assert result.problem is None, result.problem
    assert result.report is not None
    assert result.report.evaluation.generated is not None
    assert result.report.evaluation.generated.way == "pixels"


def test_a_training_fits_into_what_others_leave_free(tmp_path: Path) -> None:
    """A batch of 128 needs more than that: it is done in parts."""
    data = _images(tmp_path, 256, side=192)
    upload = tmp_path / "large.onnx"
    _export(zoo.residual(), (3, 192, 192), upload)
    step = {**STEPS["prune"], "recover": {"epochs": 1, "batch_size": 128}}
    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(free - 3 * GIBIBYTE, dtype=torch.uint8, device="cuda")
    result = _run(tmp_path / "job", data, step, None, upload)
    del ballast
    assert result.problem is None, result.problem
    assert result.report is not None
    assert result.report.manifest.machine.device.startswith("cuda")


def test_a_confined_engine_uses_the_gpu() -> None:
    with tempfile.TemporaryDirectory(prefix="planish-gpu-") as name:
        place = Path(name).resolve()
        place.chmod(0o755)
        directory = place / "job"
        _prepare(directory, _images(place, 256), STEPS["prune"])
        with Sandbox(device="cuda:0", threads=2) as sandbox:
            print(sandbox.probe())
            end = sandbox.start(directory, LIMITS).wait(150)
        log = (directory / "engine.log").read_text(errors="replace")
        assert end is not None
        assert end.reason == "exited", (end, log)
        result = Result.model_validate_json((directory / "result.json").read_bytes())
        assert result.report is not None, (result.problem, log)
        assert result.report.manifest.machine.device.startswith("cuda")
        shutil.rmtree(directory)


def _images(directory: Path, count: int, side: int = 16) -> Path:
    """Write a dataset of noise."""
    images = np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)
    path = directory / "data.npz"
    np.savez(path, allow_pickle=False, image=images)
    return path


def _export(network: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a network as ONNX, with a dynamic batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (torch.zeros(2, *shape),), path, input_names=["image"],
            dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip


def _prepare(
    directory: Path,
    dataset: Path | None,
    step: dict[str, object],
    upload: Path | None = None,
    **order: object,
) -> None:
    """Make a job directory."""
    directory.mkdir()
    model = upload or zoo.path("residual")
    (directory / "upload").write_bytes(model.read_bytes())
    if dataset is not None:
        (directory / "dataset").write_bytes(dataset.read_bytes())
    whole = {"kind": "compress", "steps": [step], "threads": 2, **order}
    (directory / "job.json").write_text(json.dumps(whole))


def _run(
    directory: Path,
    dataset: Path | None,
    step: dict[str, object],
    visible: str | None,
    upload: Path | None = None,
    **order: object,
) -> Result:
    """Run the engine as a worker does, with the GPUs that it may see."""
    _prepare(directory, dataset, step, upload, **order)
    env = dict(os.environ) if visible is None else {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    argv = [sys.executable, "-m", "workers.compression", str(directory)]
    subprocess.run(argv, env=env, check=True, timeout=200)
    return Result.model_validate_json((directory / "result.json").read_bytes())
