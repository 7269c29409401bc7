"""What is trained for a metric makes that metric better, and says where nothing can."""

import numpy as np
import pytest
import torch
from torch import Tensor

from app.domain.jobs import Evaluate
from app.domain.metrics import Metric
from app.domain.problems import DatasetMismatch
from workers.compression.learning import losses, measured, objectives
from workers.compression.measure.quality import Yardstick


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def yardstick(metric: Metric, blank: int | None = None) -> Yardstick:
    return Yardstick(metric, "y", Evaluate(metric=metric, blank=blank))


def figure(by: Yardstick, output: Tensor, targets: Tensor) -> float:
    score = by.score()
    for one, target in zip(output.numpy(), targets.numpy(), strict=True):
        score.add({"y": one[None]}, target)
    return score.value


def trained(by: Yardstick, start: Tensor, targets: Tensor, steps: int = 200) -> Tensor:
    """Descend the loss on the outputs themselves."""
    term = objectives.labels("y", start, targets, by)
    output = start.clone().requires_grad_()
    descent = torch.optim.Adam([output], 0.05)
    for _ in range(steps):
        descent.zero_grad()
        term({"y": output}, {}, targets).backward()  # type: ignore[no-untyped-call]
        descent.step()
    return output.detach()


CASES = [
    (yardstick("r2"), drawn(20, 3), drawn(20, 3, seed=1)),
    (yardstick("r2"), drawn(20, 1), drawn(20, seed=1)),
    (yardstick("cosine"), drawn(20, 6), drawn(20, 6, seed=1)),
    (yardstick("cosine"), drawn(6, 4, 5), drawn(6, 4, 5, seed=1)),
    (yardstick("iou"), drawn(4, 1, 6, 6), (drawn(4, 6, 6, seed=1) > 0).long()),
    (yardstick("iou"), drawn(4, 1, 6, 6), (drawn(4, 1, 6, 6, seed=1) > 0).float()),
    (yardstick("iou"), drawn(4, 3, 6, 6), (drawn(4, 6, 6, seed=1) * 2).long().clamp(-1, 2)),
    (yardstick("cer"), drawn(5, 7, 6), (drawn(5, 7, seed=1) * 3).long().clamp(0, 5)),
    (
        yardstick("cer", blank=0),
        drawn(5, 16, 6),
        (drawn(5, 6, seed=1).abs() * 4).long().clamp(1, 5).where(torch.arange(6) < 5, -1),
    ),
]


@pytest.mark.parametrize(("by", "start", "targets"), CASES)
def test_the_loss_of_a_metric_leads_to_its_best(
    by: Yardstick, start: Tensor, targets: Tensor
) -> None:
    best = 0.0 if by.kind in ("rate", "error") else 1.0
    before, after = (figure(by, each, targets) for each in (start, trained(by, start, targets)))
    assert abs(after - best) < 0.15 * abs(before - best)


def test_r2_weighs_channels_in_their_own_units() -> None:
    targets = drawn(64, 2) * torch.tensor([1000.0, 0.01])
    loss = measured.loss_of(yardstick("r2"), targets, targets)
    assert loss is not None
    off = targets + torch.tensor([0.0, 0.01]) * drawn(64, 2, seed=1)
    assert 0.2 < float(loss(off, targets)) < 1


@pytest.mark.parametrize("softmax", [False, True])
def test_alignments_are_torchs_whatever_the_padding(softmax: bool) -> None:
    scores = drawn(2, 9, 5)
    output = scores.softmax(-1) if softmax else scores
    targets = torch.tensor([[1, 2, -1], [3, -1, 4]])
    loss = measured.loss_of(yardstick("cer", blank=0), output, targets)
    assert loss is not None
    wanted = torch.nn.functional.ctc_loss(
        scores.log_softmax(-1).movedim(1, 0), torch.tensor([1, 2, 3, 4]),
        torch.tensor([9, 9]), torch.tensor([2, 2]), blank=0,
    )  # fmt: skip
    assert torch.allclose(loss(output, targets), wanted, atol=1e-4)


def test_padding_is_not_learned() -> None:
    output, targets = drawn(2, 4, 5), torch.tensor([[1, 2, -1, -1], [-1, -1, -1, -1]])
    loss = measured.loss_of(yardstick("cer"), output, targets)
    assert loss is not None
    wanted = losses.cross_entropy(output[0, :2], targets[0, :2])
    assert torch.allclose(loss(output, targets), wanted)
    assert float(loss(output[1:], targets[1:])) == 0


def test_sequences_of_another_length_are_refused_with_what_to_do() -> None:
    with pytest.raises(DatasetMismatch, match=r"evaluate\.blank"):
        objectives.labels("y", drawn(3, 9, 5), torch.ones(3, 4).long(), yardstick("cer"))
    with pytest.raises(DatasetMismatch, match="'loss': 'teacher'"):
        objectives.labels("y", drawn(3, 9), torch.ones(3, 4).long(), yardstick("cer", 0))


def test_every_output_is_imitated_in_the_units_of_each_channel() -> None:
    """Scores from 0 to 1 beside boxes in pixels, in one output."""
    units = torch.tensor([300.0] * 4 + [0.05] * 6).reshape(1, 10, 1, 1)
    teacher = {"all": drawn(256, 10, 4, 4) * units}
    (term,) = objectives.imitation(teacher, None, "all", 2.0)
    noise = drawn(256, 10, 4, 4, seed=1) * units
    channels = torch.arange(10).reshape(1, 10, 1, 1)
    losses_of = [
        float(term({"all": teacher["all"] + noise * (channels == each)}, teacher, None))
        for each in (0, 9)
    ]
    assert losses_of[0] == pytest.approx(losses_of[1], rel=0.3)
    assert np.mean(losses_of) == pytest.approx(0.1, rel=0.3)
