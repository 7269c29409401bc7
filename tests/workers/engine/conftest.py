"""Small real models, trained on scikit-learn's digits and exported once a session."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from app.domain.directory import Result
from app.domain.reports import Report
from tests.workers.apart import apart
from workers.compression.__main__ import main

Run = Callable[..., Result]


def report_of(result: Result) -> Report:
    """Return the report of a job that has ended well."""
    assert result.problem is None, result.problem
    assert result.report is not None
    return result.report


@pytest.fixture(scope="session")
def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    found = load_digits()
    return (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64)


class Vit(nn.Module):
    """Four by four patches of two by two pixels, two layers of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(4, 64)
        self.place = nn.Parameter(torch.zeros(1, 16, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        patches = image.reshape(-1, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(-1, 16, 4)
        answer: torch.Tensor = self.head(self.body(self.patch(patches) + self.place).mean(1))
        return answer


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU6(),
        nn.Conv2d(32, 64, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.GELU(),
        nn.Linear(128, 10),
    )  # fmt: skip


def _train(net: nn.Module, images: torch.Tensor, classes: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(128):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), classes[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@pytest.fixture(scope="session")
def exported(
    digits: tuple[NDArray[np.float32], NDArray[np.int64]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A CNN, an MLP and a small vision transformer as ONNX files."""
    directory = tmp_path_factory.mktemp("exported")
    images, classes = (torch.from_numpy(array) for array in digits)
    torch.set_num_threads(1)
    paths = {}
    for name, make, epochs in (("cnn", _cnn, 20), ("mlp", _mlp, 8), ("vit", Vit, 12)):
        torch.manual_seed(0)
        net = make()
        _train(net, images, classes, epochs)
        paths[name] = directory / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net.eval(), (images[:2],), paths[name], input_names=["image"],
                output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    return paths


@pytest.fixture(scope="session")
def digits_npz(
    digits: tuple[NDArray[np.float32], NDArray[np.int64]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, allow_pickle=False, image=digits[0], targets=digits[1])
    return path


@pytest.fixture
def job(tmp_path: Path) -> Run:
    """Run a job directory made of a model, perhaps datasets, and the fields of an order.

    The model is a file, or the directory of an upload that was inspected before. Jobs run in this
    process, which has threads; with ``apart=True`` in one that is started without, as workers do.
    """

    def run(model: Path, *steps: dict[str, Any], data: Path | None = None, **order: Any) -> Result:
        directory = tmp_path / order.pop("name", "job")
        directory.mkdir(exist_ok=True)
        if model.is_dir():
            shutil.copytree(model, directory, dirs_exist_ok=True)
            (directory / "result.json").unlink()
        else:
            (directory / "upload").write_bytes(model.read_bytes())
        if data is not None:
            (directory / "dataset").write_bytes(data.read_bytes())
        if (judged := order.pop("judged", None)) is not None:
            (directory / "evaluate-dataset").write_bytes(judged.read_bytes())
        if (metric := order.pop("metric", None)) is not None:
            (directory / "metric.onnx").write_bytes(metric.read_bytes())
        is_apart = order.pop("apart", False)
        if order.pop("generated", False):
            order["data"] = "generated"
        wish = {"kind": "compress", "threads": 1} | ({"steps": steps} if steps else {}) | order
        (directory / "job.json").write_text(json.dumps(wish))
        assert (apart(main, directory) if is_apart else main(directory)) == 0
        return Result.model_validate_json((directory / "result.json").read_bytes())

    return run
