"""How good a state of a training is, on samples that it is not trained on."""

from dataclasses import dataclass

import torch

from app.domain.metrics import Kind, Metric
from workers.compression.learning.feed import Feed
from workers.compression.learning.task import Task


@dataclass(frozen=True)
class Judgement:
    """What some samples say of a state."""

    loss: float
    """What is minimised, a mean over the samples."""
    metric: Metric | None
    kind: Kind | None
    """What sort of figure the metric is."""
    figure: float | None
    """The value of the metric; None without one."""
    samples: int


@torch.no_grad()
def judge(task: Task, feed: Feed, rows: list[int]) -> Judgement:
    """Run samples through the graph as it is now.

    Args:
        task: what is trained.
        feed: how samples reach the graph.
        rows: of the dataset, those to judge on.
    """
    yardstick = task.yardstick
    score = None if yardstick is None else yardstick.score()
    total = 0.0
    for part in feed.parts(rows):
        batch = feed.batch(part)
        outputs = feed.outputs(task.forward, batch)
        total += float(task.loss(outputs, batch)) * len(part)
        if score is None or batch.targets is None:
            continue
        answers = {name: output.cpu().numpy() for name, output in outputs.items()}
        for index, target in enumerate(batch.targets.cpu().numpy()):
            score.add({name: a[index : index + 1] for name, a in answers.items()}, target)
    return Judgement(
        loss=total / len(rows),
        metric=yardstick.metric if yardstick else None,
        kind=yardstick.kind if yardstick else None,
        figure=score.value if score else None,
        samples=len(rows),
    )
