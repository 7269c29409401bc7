"""What a graph's answers are judged by: which output, by which metric, against which targets.

``app/domain/metrics.py`` says what kind of figure a metric is and which targets it needs;
``METERS`` says how it is computed. Both have a row for each metric.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.jobs import Evaluate
from app.domain.metrics import METRICS, Kind, Metric, unfit
from app.domain.problems import DatasetMismatch
from app.domain.reports import Quality
from workers.compression.measure.metrics import classes, masks, numbers, sequences
from workers.compression.measure.metrics.graph import GraphMetric
from workers.compression.measure.metrics.meter import Meter, Summed, Unfit, mean

METERS: Mapping[Metric, Callable[[Evaluate], Meter]] = {
    "top1": lambda _: Summed(lambda o, t: classes.top(o, t, count=1), mean),
    "top5": lambda _: Summed(lambda o, t: classes.top(o, t, count=5), mean),
    "f1": lambda _: Summed(classes.confusion, classes.macro_f1),
    "mse": lambda _: Summed(lambda o, t: numbers.error(o, t, power=2), mean),
    "mae": lambda _: Summed(lambda o, t: numbers.error(o, t, power=1), mean),
    "r2": lambda _: numbers.Determination(),
    "cosine": lambda _: Summed(numbers.cosine, mean),
    "iou": lambda wish: Summed(
        lambda o, t: masks.overlaps(o, t, threshold=wish.threshold), masks.jaccard
    ),
    "cer": lambda wish: Summed(
        lambda o, t: sequences.edits(o, t, blank=wish.blank), sequences.rate
    ),
}


@dataclass(frozen=True)
class Yardstick:
    """What answers are measured by."""

    metric: Metric
    output: str
    """The one that is compared with the targets."""
    wish: Evaluate
    """With the metric's parameters."""

    @property
    def kind(self) -> Kind:
        """What sort of figure comes out."""
        return METRICS[self.metric].kind

    def score(self) -> "Score":
        """Return the metric over no sample yet."""
        return Score(self)


class Score:
    """The running value of a metric."""

    def __init__(self, yardstick: Yardstick) -> None:
        self._yardstick = yardstick
        self._meter = METERS[yardstick.metric](yardstick.wish)
        self.samples = 0

    def add(
        self,
        outputs: Mapping[str, NDArray[Any]],
        target: NDArray[Any] | None,
        _reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Count one sample: the graph's outputs ``[1, …]``, and its target ``[…]``.

        Raises:
            DatasetMismatch: output and target do not fit each other.
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
    def quality(self) -> Quality:
        """The metric over all samples so far, with what it is."""
        return Quality(metric=self._yardstick.metric, value=self.value, samples=self.samples)


def judged_output(model: ir.Model, wish: Evaluate) -> str:
    """Return the name of the output that targets and agreement speak of: the first, or as asked.

    Raises:
        DatasetMismatch: there is no such output.
    """
    names = [str(value.name) for value in model.graph.outputs]
    if wish.output is not None and wish.output not in names:
        raise DatasetMismatch(
            f"The model has no output '{wish.output}' to evaluate; it has: {', '.join(names)}."
        )
    return wish.output or names[0]


def judge(
    model: ir.Model,
    targets: NDArray[Any] | None,
    wish: Evaluate,
    metric_graph: Path | None,
    threads: int,
) -> Yardstick | GraphMetric | None:
    """Return what answers are judged by: the graph that the user names, or a yardstick.

    Args:
        model: the graph that answers.
        targets: of the samples; None without.
        wish: the metric, and the output that targets speak of.
        metric_graph: the graph that computes the metric; None where it is not to be used.
        threads: to compute with.

    Raises:
        DatasetMismatch: the metric needs other targets, or there is no such output.
        MetricFailed: the metric's graph cannot be used.
    """
    if wish.metric_graph is None or metric_graph is None:
        return yardstick(model, targets, wish)
    kind: Kind = "gain" if wish.higher_is_better else "error"
    outputs = [str(value.name) for value in model.graph.outputs]
    return GraphMetric(metric_graph, wish.metric_graph, kind, outputs, threads)


def yardstick(model: ir.Model, targets: NDArray[Any] | None, wish: Evaluate) -> Yardstick | None:
    """Return what the answers of a graph are measured by against targets.

    None without targets, and where the user's own graph computes the metric: a training then
    chooses by its loss.

    Raises:
        DatasetMismatch: the metric needs other targets, or there is no such output.
    """
    metric = infer(targets, wish)
    return None if metric is None else Yardstick(metric, judged_output(model, wish), wish)


def infer(targets: NDArray[Any] | None, wish: Evaluate) -> Metric | None:
    """Return the metric with a name that is asked for, or that the targets suggest, if any.

    Raises:
        DatasetMismatch: the metric needs other targets.
    """
    if wish.metric_graph is not None:
        return None
    if targets is None:
        if wish.named_metric is not None:
            raise DatasetMismatch(
                f"The metric '{wish.named_metric}' needs targets: add an array 'targets' to the"
                " dataset, or leave the metric out to compare with the original model's outputs."
            )
        return None
    metric: Metric = wish.named_metric or ("top1" if targets.dtype.kind in "iub" else "mse")
    if (reason := unfit(metric, str(targets.dtype), targets.shape)) is not None:
        raise DatasetMismatch(reason)
    return metric
