"""Programs of torch.export keep their inputs and dynamic dimensions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.workers.intake.sources.reading import EXACT, answers, inspected, rejected

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.export's own deprecations


class Mix(nn.Module):
    """One output is multiplied by an integer, by the operator's second name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(5, 4), nn.Linear(3, 4)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(a) + self.right(b), torch.multiply(self.left(a).relu(), torch.tensor(2))


def test_a_program_answers_as_in_torch(tmp_path: Path) -> None:
    module, batch = Mix().eval(), Dim("batch")
    example = (torch.zeros(2, 5), torch.zeros(2, 3))
    program = torch.export.export(module, example, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(program, tmp_path / "model.pt2")
    found, conversion = inspected(tmp_path / "model.pt2", tmp_path / "job")
    assert (found.format, conversion.source) == ("torch_export", "torch_export")
    assert conversion.max_error < EXACT
    assert [(each.name, each.shape) for each in found.inputs] == [
        ("a", ["batch", 5]),
        ("b", ["batch", 3]),
    ]
    draw = np.random.default_rng(0)
    inputs = [draw.standard_normal((6, size)).astype(np.float32) for size in (5, 3)]
    theirs = module(*map(torch.from_numpy, inputs))
    for ours, expected in zip(answers(tmp_path / "job", *inputs), theirs, strict=True):
        np.testing.assert_allclose(ours, expected.detach().numpy(), atol=EXACT)


class Scaled(nn.Module):
    """Takes a dict and a keyword, and gives more than tensors."""

    def forward(self, given: dict[str, Tensor], *, scale: Tensor) -> tuple[Tensor, None, int]:
        return given["x"] * scale + given["y"], None, 3


def saved(module: nn.Module, path: Path, arguments: tuple[Any, ...], **options: Any) -> Path:
    torch.export.save(torch.export.export(module, arguments, **options), path / "model.pt2")
    return path / "model.pt2"


def test_dicts_and_keywords_of_tensors_are_inputs(tmp_path: Path) -> None:
    given = {"x": torch.ones(2, 3), "y": torch.ones(2, 3)}
    file = saved(Scaled(), tmp_path, (given,), kwargs={"scale": torch.ones(2, 1)})
    found, _ = inspected(file, tmp_path / "job")
    assert [(each.name, each.shape) for each in found.inputs] == [
        ("given_x", [2, 3]), ("given_y", [2, 3]), ("scale", [2, 1]),
    ]  # fmt: skip
    x, y, scale = np.full((2, 3), 5, np.float32), np.ones((2, 3), np.float32), [[2], [3]]
    (ours,) = answers(tmp_path / "job", x, y, np.array(scale, np.float32))
    np.testing.assert_array_equal(ours, [[11] * 3, [16] * 3])


def test_sizes_that_the_program_leaves_open_can_be_stated(tmp_path: Path) -> None:
    file = saved(nn.Linear(5, 4), tmp_path, (torch.zeros(2, 5),), dynamic_shapes=({0: Dim("n")},))
    found, _ = inspected(file, tmp_path / "job", inputs=[{"shape": [3, 5]}])
    assert found.inputs[0].shape == [3, 5]


class Counting(nn.Module):
    """Answers otherwise in each run."""

    runs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.runs.add_(1)
        return x * self.runs


@pytest.mark.parametrize("module", [Counting(), nn.Dropout(0.5)])
def test_a_program_that_answers_otherwise_each_time_is_told_what_to_do(
    tmp_path: Path, module: nn.Module
) -> None:
    with rejected(r"each time.*model\.eval\(\)"):
        inspected(saved(module, tmp_path, (torch.ones(2, 50),)), tmp_path / "job")


def test_a_broken_program_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(Mix().eval(), (torch.zeros(2, 5), torch.zeros(2, 3)))
    torch.export.save(program, tmp_path / "model.pt2")
    data = bytearray((tmp_path / "model.pt2").read_bytes())
    position = data.index(b'"graph_module"')
    data[position : position + 14] = b'"raph_moduleg"'
    (tmp_path / "model.pt2").write_bytes(bytes(data))
    with rejected("cannot be opened"):
        inspected(tmp_path / "model.pt2", tmp_path / "job")
