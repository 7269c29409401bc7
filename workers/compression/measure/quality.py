"""Chooses how outputs are judged: which output, by which metric, against which targets.

``app/domain/metrics.py`` says what kind of figure a metric is and which targets it needs;
``METERS`` says how it is computed. Both have a row for each metric.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.jobs import Evaluate
from app.domain.metrics import METRICS, Kind, Metric, unfit, usual
from app.domain.problems import DatasetMismatch
from app.domain.reports import Quality
from workers.compression.measure import single_scores
from workers.compression.measure.drop_interval import Counts
from workers.compression.measure.metrics import classes, masks, numbers, sequences
from workers.compression.measure.metrics.graph import GraphMetric
from workers.compression.measure.metrics.meter import Meter, Summed, Unfit, mean

METERS: Mapping[Metric, Callable[[Evaluate], Meter]] = {
    "top1": lambda settings: Summed(
        lambda o, t: classes.top(o, t, count=1, threshold=settings.threshold), mean
    ),
    "top5": lambda _: Summed(lambda o, t: classes.top(o, t, count=5), mean),
    "f1": lambda settings: Summed(
        lambda o, t: classes.confusion(o, t, threshold=settings.threshold), classes.macro_f1
    ),
    "mse": lambda _: Summed(lambda o, t: numbers.error(o, t, power=2), mean),
    "mae": lambda _: Summed(lambda o, t: numbers.error(o, t, power=1), mean),
    "r2": lambda _: numbers.Determination(),
    "cosine": lambda _: Summed(numbers.cosine, mean),
    "iou": lambda settings: Summed(
        lambda o, t: masks.overlaps(o, t, threshold=settings.threshold), masks.jaccard
    ),
    "cer": lambda settings: Summed(
        lambda o, t: sequences.edits(o, t, blank=settings.blank), sequences.rate
    ),
}


@dataclass(frozen=True)
class Yardstick:
    """A metric of one output against the targets."""

    metric: Metric
    output: str
    """The output that is compared with the targets."""
    settings: Evaluate
    """The request, which holds the parameters of the metric."""
    probabilities: bool = False
    """Whether the values of the output always lie between 0 and 1."""

    @property
    def kind(self) -> Kind:
        """The kind of the figure, such as an error or a share."""
        return METRICS[self.metric].kind

    def score(self) -> "Score":
        """Return a running value of the metric, before the first sample."""
        return Score(self)


class Score:
    """The running value of a metric."""

    def __init__(self, yardstick: Yardstick) -> None:
        self._yardstick = yardstick
        self._meter = METERS[yardstick.metric](yardstick.settings)
        self.samples = 0

    def add(
        self,
        outputs: Mapping[str, NDArray[Any]],
        target: NDArray[Any] | None,
        _reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Add one sample: the graph's outputs ``[1, …]``, and its target ``[…]``.

        Raises:
            DatasetMismatch: the output and the target do not fit each other.
        """
        assert target is not None, "without targets there is no yardstick"
        output = outputs[self._yardstick.output]
        try:
            if not target.size:
                raise Unfit("there is no target to compare with")  # noqa: TRY301 (as the meters do)
            self._meter.add(output, target)
        except Unfit as error:
            raise DatasetMismatch(
                f"Output '{self._yardstick.output}' {list(output.shape)} does not fit the targets"
                f" {list(target.shape)} of a sample: {error}. Name another output in"
                " 'evaluate.output', or another metric."
            ) from None
        self.samples += 1

    @property
    def value(self) -> float:
        """The metric over all samples so far."""
        return self._meter.value

    @property
    def counts(self) -> Counts | None:
        """What was counted in each sample, and out of how many; None of metrics that do not count.

        A mean over classes is no count.
        """
        counting = self._yardstick.kind in {"share", "rate"} and isinstance(self._meter, Summed)
        terms = self._meter.terms if isinstance(self._meter, Summed) else []
        return np.array(terms) if counting and terms else None

    @property
    def quality(self) -> Quality:
        """The metric over all samples so far, with its name and kind."""
        return Quality(metric=self._yardstick.metric, value=self.value, samples=self.samples)


def judged_output(model: ir.Model, settings: Evaluate) -> str:
    """Return the output that is compared with the targets: the first one, or the requested one.

    Raises:
        DatasetMismatch: there is no such output.
    """
    names = [str(value.name) for value in model.graph.outputs]
    if settings.output is not None and settings.output not in names:
        raise DatasetMismatch(
            f"The model has no output '{settings.output}' to evaluate; it has: {', '.join(names)}."
        )
    return settings.output or names[0]


def judge(
    model: ir.Model,
    targets: NDArray[Any] | None,
    settings: Evaluate,
    metric_graph: Path | None,
    threads: int,
) -> Yardstick | GraphMetric | None:
    """Return the metric: the graph that the user names, or a yardstick.

    Args:
        model: the graph that is judged.
        targets: the targets of the samples, if any.
        settings: the requested metric and output.
        metric_graph: the graph that computes the metric, if one is to be used.
        threads: number of threads to compute with.

    Raises:
        DatasetMismatch: the metric needs other targets, or there is no such output.
        MetricFailed: the metric's graph cannot be used.
    """
    if settings.metric_graph is None or metric_graph is None:
        return yardstick(model, targets, settings)
    kind: Kind = "gain" if settings.higher_is_better else "error"
    outputs = [str(value.name) for value in model.graph.outputs]
    return GraphMetric(metric_graph, settings.metric_graph, kind, outputs, threads)


def yardstick(
    model: ir.Model, targets: NDArray[Any] | None, settings: Evaluate
) -> Yardstick | None:
    """Return the metric of a graph against targets.

    None without targets, and where the user's own graph computes the metric; a training then
    chooses by its loss.

    Raises:
        DatasetMismatch: the metric needs other targets, or there is no such output.
    """
    metric = infer(targets, settings)
    if metric is None or targets is None:
        return None
    name = judged_output(model, settings)
    output = next(value for value in model.graph.outputs if value.name == name)
    probabilities = single_scores.are_probabilities(model, name)
    if metric in {"top1", "f1"} and single_scores.has_one_for_each(output, targets.shape):
        if ((targets == classes.IGNORED) | (targets == 0) | (targets == 1)).all():
            threshold = single_scores.YES[probabilities]
            settings = settings.model_copy(update={"threshold": threshold})
        elif settings.named_metric is None:
            metric = "mse"
    return Yardstick(metric, name, settings, probabilities)


def infer(targets: NDArray[Any] | None, settings: Evaluate) -> Metric | None:
    """Return the named metric that is requested, or the one that the targets suggest, if any.

    Integers suggest classes; ``yardstick`` looks at the output too.

    Raises:
        DatasetMismatch: the metric needs other targets.
    """
    if settings.metric_graph is not None:
        return None
    if targets is None:
        if settings.named_metric is not None:
            raise DatasetMismatch(
                f"The metric '{settings.named_metric}' needs targets: add an array 'targets' to the"
                " dataset, or leave the metric out to compare with the original model's outputs."
            )
        return None
    metric: Metric = settings.named_metric or usual(str(targets.dtype))
    if (reason := unfit(metric, str(targets.dtype), targets.shape)) is not None:
        raise DatasetMismatch(reason)
    return metric
