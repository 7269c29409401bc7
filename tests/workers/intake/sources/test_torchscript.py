"""TorchScript becomes a graph that answers as torch does; its inputs are asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.domain.models import TensorSpec
from app.domain.problems import InvalidModel
from tests.workers.intake.sources.reading import EXACT, answers, inspected, rejected

IMAGE = [{"name": "image", "dtype": "float32", "shape": ["batch", 3, "height", "width"]}]


class Convnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.classes = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, image: Tensor) -> Tensor:
        classes: Tensor = self.classes(torch.relu(self.conv(image)).mean((2, 3)))
        return classes


class Reader(nn.Module):
    """Tokens to classes, by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.classes = nn.Embedding(50, 8), nn.Linear(6, 3)
        self.lstm = nn.LSTM(8, 6, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        classes: Tensor = self.classes(self.lstm(self.words(tokens))[0][:, -1])
        return classes


class Named(nn.Module):
    def forward(self, image: Tensor, how: str) -> Tensor:
        return image if how == "same" else -image


def scripted(module: nn.Module, path: Path) -> Path:
    script: Callable[..., Any] = torch.jit.script
    script(module.eval()).save(str(path))
    return path


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_network_answers_as_in_torch_at_every_size(tmp_path: Path) -> None:
    module = Convnet()
    file = scripted(module, tmp_path / "model.pt")
    found, conversion = inspected(file, tmp_path / "job", inputs=IMAGE)
    assert found.format == "torchscript"
    assert conversion.max_error < EXACT
    assert found.inputs == [
        TensorSpec(name="image", dtype="float32", shape=["batch", 3, "height", "width"])
    ]
    images = np.random.default_rng(0).standard_normal((3, 3, 9, 14)).astype(np.float32)
    (ours,) = answers(tmp_path / "job", images)
    theirs = module(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=EXACT)


def test_tokens_of_any_length_are_read(tmp_path: Path) -> None:
    module = Reader()
    hints = [{"name": "tokens", "dtype": "int64", "shape": ["batch", "length"]}]
    file = scripted(module, tmp_path / "model.pt")
    found, _ = inspected(file, tmp_path / "job", inputs=hints)
    assert found.outputs[0].shape == ["batch", 3]
    tokens = np.arange(2 * 23).reshape(2, 23)
    (ours,) = answers(tmp_path / "job", tokens)
    theirs = module(torch.from_numpy(tokens)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=EXACT)


def test_shapes_that_the_file_does_not_tell_are_asked_for(tmp_path: Path) -> None:
    file = scripted(Convnet(), tmp_path / "model.pt")
    with pytest.raises(InvalidModel, match=r"shape of 'image'.*inputs=") as caught:
        inspected(file, tmp_path / "job")
    template = caught.value.extra["inputs"]
    assert template[0]["shape"] == ["batch", 3, 224, 224]
    inspected(file, tmp_path / "again", inputs=template)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (
            ["batch", 4, 9, 9],
            r"does not run on random inputs of the shapes image \['batch', 4, 9, 9\]",
        ),
        (["batch", 3], r"it fails; its own message is in the log.* State shapes and types"),
    ],
)
def test_shapes_that_the_network_does_not_take_are_told(
    tmp_path: Path, shape: list[Any], words: str
) -> None:
    file = scripted(Convnet(), tmp_path / "model.pt")
    with rejected(words):
        inspected(file, tmp_path / "job", inputs=[{"name": "image", "shape": shape}])


def test_inputs_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    with rejected("takes 'how' of the type str"):
        inspected(scripted(Named(), tmp_path / "model.pt"), tmp_path / "job", inputs=IMAGE)


class Unrolled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[row] * 2 for row in range(int(x.shape[0]))])


@pytest.mark.filterwarnings("ignore")
def test_a_batch_that_tracing_fixed_is_no_silence(tmp_path: Path) -> None:
    """Traced with two rows, the network drops what lies beyond, and the graph would too."""
    trace: Callable[..., Any] = torch.jit.trace
    trace(Unrolled(), torch.ones(2, 3), check_trace=False).save(str(tmp_path / "model.pt"))
    with rejected(r"batch.*1.*\?inputs="):
        inspected(
            tmp_path / "model.pt", tmp_path / "job", inputs=[{"name": "x", "shape": ["batch", 3]}]
        )
