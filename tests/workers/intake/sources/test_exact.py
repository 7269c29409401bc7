"""Of a large difference it is said whether the graph or the framework is far from float64."""

import re

import pytest
from torch import Tensor, nn

from app.domain.models import TensorSpec
from workers.compression.intake.sources import exact
from workers.compression.intake.sources.program import Program


class Single(nn.Module):
    """It runs in single precision alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.layer.weight.float().T


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Linear(4, 2), r"the graph is 1\.0e-03 away, and torch itself \d\.\de-0[789]"),
        (Single(), r"1e-05 of most conversions\.$"),
    ],
    ids=["runs in float64", "does not"],
)
def test_whose_rounding_a_difference_is(module: nn.Module, said: str) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=["batch", 4])
    program = Program(module.eval(), [spec], "torch", "2", weights=module.state_dict())
    inputs = program.draw({"batch": 64}, 0, 2)
    answer = program.run(inputs)[0]
    far = (answer + 1e-3 * max(1.0, float(answer.abs().max()))).numpy()
    found = exact.Difference(1e-3, inputs, 0, far)
    assert re.search(said, exact.warning(program, found, 1e-5))
