"""Curves of trainings as numbers, for templates that draw them as SVG."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.events import MetricValue

_LEFT, _BOTTOM, _ACROSS, _UP = 20, 180, 600, 160
"""Of the picture of a training, which is 640 by 200: where curves begin, and how far they go."""
_CURVES = 3
"""As many curves have colours."""


@dataclass(frozen=True)
class Curve:
    """A figure of a training, by epoch, on a scale of its own."""

    name: str
    points: str
    """The points of an SVG polyline."""
    last: str
    """The figure after the last epoch."""


@dataclass(frozen=True)
class Training:
    """The curves of one step's training."""

    step: int
    """From 1."""
    curves: list[Curve]


def of_trainings(figures: Sequence[MetricValue]) -> list[Training]:
    """Return the curves of each step that trained, as ``live.js`` draws them while it runs.

    Args:
        figures: of epochs, in the order in which they were measured. What an attempt measured again
            takes the place of what was there.
    """
    values: dict[int, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for figure in figures:
        if figure.epoch is not None:
            values[figure.step][figure.name][figure.epoch] = figure.value
    return [
        Training(step + 1, [_curve(name, series[name]) for name in list(series)[:_CURVES]])
        for step, series in sorted(values.items())
    ]


def _curve(name: str, series: Mapping[int, float]) -> Curve:
    low, last = min(series.values()), max(*series, 1)
    span = max(series.values()) - low or 1
    points = [
        f"{_LEFT + epoch / last * _ACROSS:.1f},{_BOTTOM - (series[epoch] - low) / span * _UP:.1f}"
        for epoch in sorted(series)
    ]
    return Curve(name.replace("_", " "), " ".join(points), f"{series[max(series)]:.4g}")
