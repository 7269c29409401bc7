"""The table of metrics, which compare outputs with targets: one row each.

How a metric is computed stands in ``workers/compression/measure/quality.py``, a row each as well.
"""

from collections.abc import Mapping, Sequence
from math import isinf
from typing import Literal, NamedTuple, assert_never

from app.domain.percentages import percent

Metric = Literal["top1", "top5", "f1", "mse", "mae", "r2", "cosine", "iou", "cer"]

Kind = Literal["share", "score", "rate", "error", "gain"]
"""What sort of figure a metric is:

- ``share``: how many answers are right, 0 to 1. More is better, and chance moves it as any share.
- ``score``: more is better, and 1 is perfect.
- ``rate``: how many answers are wrong, from 0. Less is better.
- ``error``: less is better, in a unit of its own.
- ``gain``: more is better, in a unit of its own.

A drop of an error is relative; of the others it is absolute: 0.01 is one point.
"""

Parameter = Literal["threshold", "blank"]
"""The fields of ``evaluate`` that belong to some metrics alone."""

Kept = Literal["classes", "sequences", "numbers", "vectors"]
"""What targets hold: a class for each position; rows of classes that are padded with -1; any
numbers; two or more numbers a sample."""


class Row(NamedTuple):
    """The properties of a metric, without its computation."""

    kind: Kind
    targets: Kept
    meaning: str
    """A sentence for the docs."""
    parameters: frozenset[Parameter] = frozenset()


METRICS: Mapping[Metric, Row] = {
    "top1": Row("share", "classes", "The share of targets with the highest score."),
    "top5": Row("share", "classes", "The share of targets among the five highest scores."),
    "f1": Row("share", "classes", "2·hits / (answers + targets) of a class, a mean over classes."),
    "mse": Row("error", "numbers", "The mean squared difference."),
    "mae": Row("error", "numbers", "The mean absolute difference."),
    "r2": Row(
        "score",
        "numbers",
        "1 − squared error over variance, of each channel of the targets; a mean over channels.",
    ),
    "cosine": Row("score", "vectors", "The cosine of answer and target, for embeddings."),
    "iou": Row(
        "score",
        "numbers",
        "Intersection over union of masks or classes over all samples, a mean over classes.",
        frozenset({"threshold"}),
    ),
    "cer": Row(
        "rate",
        "sequences",
        "Edits that lead from the answers to the targets, over the length of the targets.",
        frozenset({"blank"}),
    ),
}

_WHOLE = ("int", "uint", "bool")

_MANY = 1000
"""How many times more an error need not be told exactly: the original's was next to nothing."""

_ADVICE: Mapping[Kept, str] = {
    "classes": "needs integer classes as targets",
    "sequences": "needs rows of integer classes as targets, [samples, length], padded with -1",
    "numbers": "needs numbers as targets",
    "vectors": "needs two or more numbers a sample as targets",
}


def more_is_better(kind: Kind) -> bool:
    """Return whether a larger figure is better."""
    match kind:
        case "share" | "score" | "gain":
            return True
        case "rate" | "error":
            return False
        case _:
            assert_never(kind)


def fall(kind: Kind, before: float, after: float) -> float:
    """Return the drop of a figure; negative if it got better.

    The drop is absolute, except for errors: there it is relative, and infinite if the error was 0.
    """
    worse = before - after if more_is_better(kind) else after - before
    if kind != "error" or worse == 0:
        return worse
    return worse / before if before else float("inf")


def left(kind: Kind, before: float, after: float) -> float | None:
    """Return the share that is left of what was right; None of figures without bounds."""
    match kind:
        case "share" | "score":
            return after / before if before > 0 else None
        case "rate":
            return (1 - after) / (1 - before) if before < 1 else None
        case "error" | "gain":
            return None
        case _:
            assert_never(kind)


def amount(kind: Kind, value: float) -> str:
    """Return a drop in words, in the unit that drops of such figures have."""
    match kind:
        case "error":
            if isinf(value):
                return "more than any bound, as it was 0"
            if value > _MANY:
                return f"more than {_MANY} times its value"
            return f"{percent(value, 2)} of its value"
        case "gain":
            return f"{value:.4g}"
        case "share" | "score" | "rate":
            if kind == "share" and value > 1:
                return "more than 100 points"
            points = f"{value * 100:.4g}"
            return f"{points} point" if points == "1" else f"{points} points"
        case _:
            assert_never(kind)


def usual(dtype: str) -> Metric:
    """Return the metric that targets of a dtype, as numpy names it, suggest: whole ones classes."""
    return "top1" if dtype.startswith(_WHOLE) else "mse"


def unfit(metric: Metric, dtype: str, shape: Sequence[int | str]) -> str | None:
    """Return why targets do not suit a metric, None if they do.

    Args:
        metric: the metric to compute.
        dtype: the dtype of the targets, as numpy names it.
        shape: ``[samples, …]``.
    """
    kind = METRICS[metric].targets
    is_integer = dtype.startswith(_WHOLE)
    suits: Mapping[Kept, bool] = {
        "classes": is_integer,
        "sequences": is_integer and len(shape) == 2,
        "numbers": is_integer or dtype.startswith("float"),
        "vectors": dtype.startswith(("float", *_WHOLE)) and any(size != 1 for size in shape[1:]),
    }
    if suits[kind]:
        return None
    return (
        f"The metric '{metric}' {_ADVICE[kind]}; these are {dtype}"
        f" [{', '.join(map(str, shape))}]. Choose another metric, or store the targets so."
    )


def foreign(metric: Metric | None, parameters: Mapping[Parameter, float | None]) -> list[Parameter]:
    """Return the parameters that are given and that the metric does not read."""
    reads = METRICS[metric].parameters if metric else frozenset()
    return [name for name, value in parameters.items() if value is not None and name not in reads]


def readers_of(parameter: Parameter) -> list[Metric]:
    """Return the metrics that read a parameter."""
    return [metric for metric, row in METRICS.items() if parameter in row.parameters]
