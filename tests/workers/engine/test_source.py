"""Format ``source``: a result's weights run in the framework that the upload came from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_weights
from torch import nn

import planish
from tests.workers.engine.archives import (
    CHANNELS,
    NEAR,
    ZEROS,
    delivered,
    graph_answers,
    source,
)
from tests.workers.engine.conftest import Run, report_of
from workers.compression.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks' own deprecations

INTEGERS = {"method": "quantize", "mode": "static", "force": True}
TRAINED = {**CHANNELS, "recover": {"epochs": 1}}


def network() -> nn.Module:
    """Convolutions with and without normalisation and bias, a depthwise one, a shared shape.

    Of one with a normalisation a channel has died, and so has one of a normalisation.
    """
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(),
        nn.Conv2d(16, 32, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32, affine=False), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 10),
    )  # fmt: skip
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.data.uniform_(0.5, 1.5) if "weight" in name or "var" in name else (
                tensor.data.normal_(0, 0.3)
            )
    module.get_parameter("0.weight").data[3] = 0
    module.get_parameter("4.weight").data[5] = 0
    return module.eval()


def script_of(module: nn.Module, path: Path) -> Path:
    trace: Any = torch.jit.trace
    torch.jit.save(trace(module, torch.zeros(2, 1, 8, 8)), path)
    return path


IMAGE = {"name": "image", "shape": ["batch", 1, 8, 8]}


def exported_of(module: nn.Module, path: Path) -> Path:
    dynamic = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic)
    torch.export.save(exported, path)
    return path


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as an upload that was inspected once, as in a service."""
    directory = tmp_path_factory.mktemp("scripted")
    script_of(network(), directory / "upload")
    order = source(**IMAGE)
    (directory / "job.json").write_text(json.dumps(order))
    assert main(directory) == 0
    return directory


def test_weights_go_into_the_module_that_they_came_from(
    job: Run, scripted: Path, tmp_path: Path
) -> None:
    module = network()
    result = job(scripted, ZEROS, deliver=["onnx", "source"], source=source(**IMAGE))
    report_of(result)
    artifact = result.artifacts[1]
    assert artifact.ran
    assert artifact.max_error is not None
    assert artifact.max_error < NEAR
    files = delivered(tmp_path, artifact)
    assert list(files) == ["README.md", "weights.safetensors"]
    weights = load_weights(files["weights.safetensors"])
    assert {name: array.shape for name, array in weights.items()} == {
        name: tuple(tensor.shape) for name, tensor in module.state_dict().items()
    }
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    images = np.random.default_rng(1).random((3, 1, 8, 8), np.float32)
    answers = module(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(graph_answers(tmp_path, {"image": images}), answers, atol=NEAR)


def test_weights_go_into_the_program_that_they_came_from(job: Run, tmp_path: Path) -> None:
    upload = exported_of(network(), tmp_path / "network.pt2")
    result = job(upload, ZEROS, deliver=["onnx", "source"], source=source())
    report_of(result)
    artifact = result.artifacts[1]
    assert artifact.ran, artifact.reason
    assert artifact.max_error is not None
    assert artifact.max_error < NEAR


def test_what_auto_chooses_goes_back_to_the_layers_of_the_upload(
    job: Run, scripted: Path, digits_npz: Path
) -> None:
    wish = {"deliver": ["onnx", "source"], "source": source(**IMAGE)}
    result = job(scripted, {"method": "quantize", "prefer": "size"}, data=digits_npz, **wish)
    report_of(result)
    artifact = result.artifacts[1]
    assert artifact.ran
    assert artifact.fidelity is not None
    assert artifact.fidelity.kept > 0.9


def test_cut_channels_come_with_the_map_from_wide_to_narrow(
    job: Run, scripted: Path, tmp_path: Path
) -> None:
    module = network()
    before = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    result = job(scripted, CHANNELS, deliver=["onnx", "source"], source=source(**IMAGE))
    report_of(result)
    artifact = result.artifacts[1]
    assert not artifact.ran
    assert "planish.narrow" in str(artifact.reason)
    files = delivered(tmp_path, artifact)
    kept = json.loads(files["kept.json"])
    weights = load_weights(files["weights.safetensors"])
    assert kept["layers"]["6"]["of"] == 32
    assert len(kept["layers"]["6"]["outputs"]) == len(weights["6.weight"])
    for name, array in before.items():
        narrow = array
        for axis, indices in kept["weights"].get(name, {"kept": {}})["kept"].items():
            narrow = narrow.take(indices, axis=int(axis))
        np.testing.assert_allclose(weights[name], narrow, atol=NEAR, err_msg=name)


def test_a_trained_narrower_result_runs_in_the_module_of_the_upload(
    job: Run, scripted: Path, digits_npz: Path, tmp_path: Path
) -> None:
    """Also where BatchNorm was folded, and where the steps trained after the cut."""
    result = job(
        scripted, TRAINED, data=digits_npz, deliver=["onnx", "source"], source=source(**IMAGE)
    )
    report = report_of(result)
    assert report.compressed.macs < report.baseline.macs * 0.6
    archive = tmp_path / "job" / "artifacts" / result.artifacts[1].path
    narrow = planish.narrow(network(), archive).eval()
    images = np.random.default_rng(1).random((3, 1, 8, 8), np.float32)
    answers = narrow(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(graph_answers(tmp_path, {"image": images}), answers, atol=NEAR)


def test_an_integer_result_goes_back_as_rounded_weights(
    job: Run, scripted: Path, digits_npz: Path, tmp_path: Path
) -> None:
    module = network()
    result = job(
        scripted, INTEGERS, data=digits_npz, deliver=["onnx", "source"], source=source(**IMAGE)
    )
    report_of(result)
    files = delivered(tmp_path, result.artifacts[1])
    assert b"rounds activations" in files["README.md"]
    kernel = load_weights(files["weights.safetensors"])["6.weight"]
    assert all(len(np.unique(row)) <= 256 for row in kernel)
    assert not np.array_equal(kernel, module.state_dict()["6.weight"].numpy())


def test_a_convolution_that_was_split_for_its_grids_goes_back_whole(
    job: Run, tmp_path: Path
) -> None:
    """Its bias is the corrected one."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3)).eval()
    large = torch.tensor([1.0, 200, 1, 200, 200, 1])
    head: Any = module[2]
    head.weight.data *= large[:, None, None, None]
    head.bias.data *= large
    file = script_of(module, tmp_path / "model.pt")
    data = tmp_path / "data.npz"
    images = np.random.default_rng(2).random((100, 1, 8, 8), np.float32)
    np.savez(data, allow_pickle=False, image=images)
    step = {**INTEGERS, "correct_bias": True}
    result = job(file, step, data=data, deliver=["onnx", "source"], source=source(**IMAGE))
    notes = " ".join(report_of(result).step_reports[0].notes)
    assert "grids of their own" in notes
    assert "Biases corrected" in notes
    weights = load_weights(delivered(tmp_path, result.artifacts[1])["weights.safetensors"])
    kernel, bias = (head.state_dict()[name].numpy() for name in ("weight", "bias"))
    steps = np.abs(kernel).max((1, 2, 3)) / 127
    assert (np.abs(weights["2.weight"] - kernel).max((1, 2, 3)) <= 0.51 * steps).all()
    assert not np.array_equal(weights["2.weight"], kernel)
    assert np.abs((weights["2.bias"] - bias) / large.numpy()).max() < 0.05
    assert not np.allclose(weights["2.bias"], bias, rtol=1e-5)
