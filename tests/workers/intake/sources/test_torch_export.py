"""Programs of torch.export keep their inputs and dynamic dimensions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.workers.intake.sources.reading import EXACT, answers, inspected, rejected

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.export's own deprecations


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(5, 4), nn.Linear(3, 4)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(a) + self.right(b), torch.relu(self.left(a))


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


def test_a_broken_program_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(Mix().eval(), (torch.zeros(2, 5), torch.zeros(2, 3)))
    torch.export.save(program, tmp_path / "model.pt2")
    data = bytearray((tmp_path / "model.pt2").read_bytes())
    position = data.index(b'"graph_module"')
    data[position : position + 14] = b'"raph_moduleg"'
    (tmp_path / "model.pt2").write_bytes(bytes(data))
    with rejected("cannot be opened"):
        inspected(tmp_path / "model.pt2", tmp_path / "job")
