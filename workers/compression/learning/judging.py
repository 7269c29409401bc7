"""Validates a state of a training on samples that it is not trained on."""

from dataclasses import dataclass

import torch

from app.domain.metrics import Kind, Metric
from workers.compression.learning.feed import Feed
from workers.compression.learning.task import Task


@dataclass(frozen=True)
class Judgement:
    """The validation of one state of a training."""

    loss: float
    """The mean loss over the samples."""
    metric: Metric | None
    kind: Kind | None
    """The kind of the metric, such as an error or a share."""
    figure: float | None
    """The value of the metric; None without one."""
    samples: int


@torch.no_grad()
def judge(task: Task, feed: Feed, rows: list[int]) -> Judgement:
    """Validate the graph in its present state.

    Args:
        task: what is trained.
        feed: how samples reach the graph.
        rows: the rows of the dataset to validate on.
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
