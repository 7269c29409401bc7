"""On a GPU the engine computes what it computes on the CPU, within stated tolerances.

These tests run where there is a GPU: ``pytest -m gpu``. See docs/contributing.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from app.domain.directory import Result
from tests.workers import zoo
from workers.compression.executor import build

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
}


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
    images = np.random.default_rng(0).normal(size=(512, 3, 16, 16)).astype(np.float32)
    data = tmp_path / "data.npz"
    np.savez(data, allow_pickle=False, image=images)
    explained = {}
    for device, visible in (("cuda", None), ("cpu", "")):
        result = _run(tmp_path / device, data, STEPS[name], visible)
        assert result.report is not None, result.problem
        assert result.report.manifest.machine.device.startswith(device)
        assert result.report.compressed.fidelity is not None
        explained[device] = result.report.compressed.fidelity.explained
    assert explained["cuda"] == pytest.approx(explained["cpu"], abs=EXPLAINED)


def test_the_same_seed_gives_the_same_bytes_on_a_gpu(tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    images = np.random.default_rng(0).normal(size=(256, 3, 16, 16)).astype(np.float32)
    np.savez(data, allow_pickle=False, image=images)
    runs = [_run(tmp_path / str(index), data, STEPS["prune"], None) for index in range(2)]
    first, second = (run.report.manifest.artifacts for run in runs if run.report is not None)
    assert first == second


def _run(directory: Path, data: Path, step: dict[str, object], visible: str | None) -> Result:
    """Run the engine as a worker does, with the GPUs that it may see."""
    directory.mkdir()
    (directory / "upload").write_bytes(zoo.path("residual").read_bytes())
    (directory / "dataset").write_bytes(data.read_bytes())
    (directory / "job.json").write_text(json.dumps({"kind": "compress", "steps": [step]}))
    env = dict(os.environ) if visible is None else {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    argv = [sys.executable, "-m", "workers.compression", str(directory)]
    subprocess.run(argv, env=env, check=True)
    return Result.model_validate_json((directory / "result.json").read_bytes())
