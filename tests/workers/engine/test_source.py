"""Format ``source``: a result's weights run in the framework that the upload came from."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.numpy import load as load_weights
from torch import nn

import planish
from app.domain.directory import InspectModel, Produced
from app.domain.models import INPUT_HINTS, ModelHints
from tests.workers.engine.conftest import Run, report_of

os.environ["KERAS_BACKEND"] = "torch"

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks' own deprecations

ZEROS = {"method": "prune", "granularity": "unstructured", "sparsity": 0.5}
INTEGERS = {"method": "quantize", "mode": "static", "force": True}
CHANNELS = {"method": "prune", "ratio": 0.5}
TRAINED = {**CHANNELS, "recover": {"epochs": 1}}
NEAR = 1e-4


def network() -> nn.Module:
    """Convolutions with and without normalisation and bias, a depthwise one, a shared shape."""
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
    return module.eval()


def script_of(module: nn.Module, path: Path) -> Path:
    trace: Any = torch.jit.trace
    torch.jit.save(trace(module, torch.zeros(2, 1, 8, 8)), path)
    return path


def source(**inputs: Any) -> dict[str, Any]:
    hints = {"inputs": INPUT_HINTS.validate_python([inputs])} if inputs else {}
    order = InspectModel(may_run_code=True, hints=ModelHints(**hints))
    return order.model_dump(mode="json")


IMAGE = {"name": "image", "shape": ["batch", 1, 8, 8]}


def delivered(tmp_path: Path, artifact: Produced) -> dict[str, bytes]:
    """Return the files of the archive by name."""
    with zipfile.ZipFile(tmp_path / "job" / "artifacts" / artifact.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def graph_answers(tmp_path: Path, feeds: dict[str, np.ndarray[Any, Any]]) -> Any:
    session = ort.InferenceSession(tmp_path / "job" / "artifacts" / "model.onnx")
    return session.run(None, feeds)[0]


def test_weights_go_into_the_module_that_they_came_from(job: Run, tmp_path: Path) -> None:
    module = network()
    file = script_of(module, tmp_path / "model.pt")
    result = job(file, ZEROS, deliver=["onnx", "source"], source=source(**IMAGE))
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


def test_cut_channels_come_with_the_map_from_wide_to_narrow(
    job: Run, digits_npz: Path, tmp_path: Path
) -> None:
    module = network()
    before = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    file = script_of(module, tmp_path / "model.pt")
    result = job(file, CHANNELS, deliver=["onnx", "source"], source=source(**IMAGE))
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
    job: Run, digits_npz: Path, tmp_path: Path
) -> None:
    """Also where BatchNorm was folded, and where the steps trained after the cut."""
    file = script_of(network(), tmp_path / "model.pt")
    result = job(file, TRAINED, data=digits_npz, deliver=["onnx", "source"], source=source(**IMAGE))
    report = report_of(result)
    assert report.compressed.macs < report.baseline.macs * 0.6
    archive = tmp_path / "job" / "artifacts" / result.artifacts[1].path
    narrow = planish.narrow(network(), archive).eval()
    images = np.random.default_rng(1).random((3, 1, 8, 8), np.float32)
    answers = narrow(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(graph_answers(tmp_path, {"image": images}), answers, atol=NEAR)


def keras_network() -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Rescaling(1 / 2),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2D(24, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    random = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path or "gamma" in variable.path else -0.5
        variable.assign(random.uniform(low, low + 1, variable.shape))
    return model


def keras_answers(file: bytes, path: Path, images: np.ndarray[Any, Any]) -> Any:
    import keras

    path.write_bytes(file)
    return keras.models.load_model(path)(images).detach().numpy()


@pytest.mark.parametrize(
    ("ending", "step"), [("h5", ZEROS), ("keras", CHANNELS)], ids=["zeros", "narrower"]
)
def test_keras_gets_a_whole_file(
    job: Run, tmp_path: Path, ending: str, step: dict[str, Any]
) -> None:
    """As long as its layers say how wide they are, also one that is narrower."""
    model = keras_network()
    model.save(tmp_path / f"model.{ending}")
    result = job(tmp_path / f"model.{ending}", step, deliver=["onnx", "source"], source=source())
    report_of(result)
    artifact = result.artifacts[1]
    assert artifact.ran, artifact.reason
    assert artifact.max_error is not None
    assert artifact.max_error < NEAR
    assert str(artifact.runtime).startswith("keras 3")
    files = delivered(tmp_path, artifact)
    assert f"model.{ending}" in files
    assert ("kept.json" in files) == (step == CHANNELS)
    images = np.random.default_rng(1).random((3, 8, 8, 1), np.float32)
    answers = keras_answers(files[f"model.{ending}"], tmp_path / f"back.{ending}", images)
    np.testing.assert_allclose(graph_answers(tmp_path, {"image": images}), answers, atol=NEAR)


def test_an_integer_result_goes_back_as_rounded_weights(
    job: Run, digits_npz: Path, tmp_path: Path
) -> None:
    module = network()
    file = script_of(module, tmp_path / "model.pt")
    result = job(
        file, INTEGERS, data=digits_npz, deliver=["onnx", "source"], source=source(**IMAGE)
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
