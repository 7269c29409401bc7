"""Results of a model's jobs as dots, for a template that draws them as SVG.

Sizes lie to the right. Times stand upwards in one panel, lost quality in another below it: in both,
what lies at the lower left is better.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.domain import job_names
from app.domain.metrics import Kind, amount, more_is_better
from app.domain.percentages import percent
from app.domain.reports import quality_drop
from app.web.comparison import quality
from app.web.dashboard.beside import Result
from app.web.figures import scaled

_WIDTH, _MARGIN = 640, 56
_TIMES, _LOSSES = 208, 130
"""Heights of the panels."""
_MOST_LOST = 1.0
"""Losses beyond it stand at the upper edge; but of a ``gain``, whose unit may be any."""
_ABOVE = 1.25
"""Ruined results stand as many times above the greatest loss of the others, if not lower."""
_LOST = {"agreement": "answers that changed", "explained": "variance lost"}


@dataclass(frozen=True)
class Named:
    """A result in the list beside the picture."""

    number: int
    """As it is named in the picture, from 1."""
    label: str
    figures: str
    href: str
    ruined: bool
    """Whether it does not do what the original does."""


@dataclass(frozen=True)
class Dot:
    """A result in a panel."""

    named: Named
    x: float
    y: float
    between: tuple[float, float] | None = None
    """The heights that the true one lies between, where that is known."""


@dataclass(frozen=True)
class Panel:
    """What stands upwards over the sizes."""

    name: str
    top: float
    bottom: float
    level: float
    """Where the original is."""
    dots: list[Dot]
    without: list[Named]
    """Results that have no place on its axis."""


@dataclass(frozen=True)
class Picture:
    """Panels below each other, which share the axis of sizes."""

    panels: list[Panel]
    named: list[Named]
    original_x: float
    original_figures: str
    largest: str
    """What the right end of the axis is."""
    width: int
    height: float
    left: int
    right: int


def picture(shown: Sequence[Result]) -> Picture | None:
    """Return results in one picture with the original; None where there is none."""
    if not shown:
        return None
    original = shown[-1].before
    most_bytes = max(original.size_bytes, *(result.after.size_bytes for result in shown))

    def right(size_bytes: int) -> float:
        return round(_MARGIN + size_bytes / most_bytes * (_WIDTH - 2 * _MARGIN), 1)

    named = [
        Named(
            number,
            result.job.name or job_names.work_of(result.job),
            result.figures,
            f"/jobs/{result.job.id}",
            result.ruined,
        )
        for number, result in enumerate(shown, 1)
    ]
    places = [right(result.after.size_bytes) for result in shown]
    times = _times(shown, named, places)
    losses = _losses(shown, named, places, times.bottom + _MARGIN)
    panels = [times] if losses is None else [times, losses]
    said = [scaled(original.size_bytes, "B").text]
    if original.quality:
        said.append(quality(original))
    return Picture(
        panels=panels,
        named=named,
        original_x=right(original.size_bytes),
        original_figures=", ".join(said),
        largest=scaled(most_bytes, "B").text,
        width=_WIDTH,
        height=panels[-1].bottom + _MARGIN,
        left=_MARGIN,
        right=_WIDTH - _MARGIN,
    )


def _times(shown: Sequence[Result], named: Sequence[Named], places: Sequence[float]) -> Panel:
    longest = max(1.0, *(result.share or 0.0 for result in shown))
    up = _scale(_MARGIN, _TIMES, 0.0, longest)
    dots = [
        Dot(
            name,
            x,
            up(result.share),
            result.between and (up(result.between[0]), up(result.between[1])),
        )
        for result, name, x in zip(shown, named, places, strict=True)
        if result.share is not None
    ]
    without = [name for result, name in zip(shown, named, strict=True) if result.share is None]
    limit = "the original's" if longest <= 1 else f"{longest:.2f} times the original's"
    return Panel(f"time, up to {limit}", _MARGIN, _MARGIN + _TIMES, up(1.0), dots, without)


def _losses(
    shown: Sequence[Result], named: Sequence[Named], places: Sequence[float], top: float
) -> Panel | None:
    """Return the panel of lost quality; None where nothing was compared.

    It shows results that were judged alike, as most of them were: a loss of one metric is no loss
    of another. Ruined ones stand at the upper edge, just above the others.
    """
    judges = [_judged_by(result) for result in shown]
    common = Counter(judge for judge in judges if judge is not None).most_common(1)
    if not common:
        return None
    (((what, kind), _),) = common
    lost = [
        quality_drop(result.before.quality, result.after.quality, result.after.fidelity)
        for result in shown
    ]
    alike = [index for index, judge in enumerate(judges) if judge == (what, kind)]
    least = min(0.0, *(lost[index] for index in alike))
    most = max(0.0, *(lost[index] for index in alike))
    of_use = max([0.0, *(lost[index] for index in alike if not shown[index].ruined)])
    limit = min(_ABOVE * of_use, most) or most
    limit = limit if kind == "gain" else min(limit, _MOST_LOST)
    up = _scale(top, _LOSSES, least, limit if limit > least else least + 1)
    dots = [Dot(named[index], places[index], up(lost[index])) for index in alike]
    without = [name for index, name in enumerate(named) if index not in alike]
    called = _LOST.get(what) or f"{what} {'lost' if more_is_better(kind) else 'added'}"
    in_words = percent(limit, 2) if what in _LOST else amount(kind, limit)
    more = " or more" if most > limit else ""
    name = f"{called}, up to {in_words}{more}" if limit > 0 else f"{called}: none"
    return Panel(name, top, top + _LOSSES, up(0.0), dots, without)


def _judged_by(result: Result) -> tuple[str, Kind] | None:
    """Return the metric of both graphs, else what a comparison with the original goes by."""
    before, after = result.before.quality, result.after.quality
    if before and after:
        return after.metric, after.kind
    return (result.after.fidelity.bounded, "share") if result.after.fidelity else None


def _scale(top: float, height: float, least: float, most: float) -> Callable[[float], float]:
    """Return the place of a value between the least, at the bottom, and the most, at the top."""
    return lambda value: round(
        top + height - (min(max(value, least), most) - least) / (most - least) * height, 1
    )
