"""What a step chose from, as curves and bars: where points lie, for a template that draws them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.domain.percentages import percent
from app.domain.reports import Choice, LayerPrice
from app.web.figures import isolated, scaled

WIDTH, HEIGHT, MARGIN = 640, 280, 48


@dataclass(frozen=True)
class Point:
    """A graph that was considered; lower left is better."""

    x: float
    y: float
    label: str
    chosen: bool


@dataclass(frozen=True)
class Curve:
    """The loss of quality upwards, against size or time to the right."""

    name: str
    across: str
    """What the right end of the picture is."""
    up: str
    """What the upper end is."""
    points: list[Point]
    front: str
    """The points that no other one surpasses, as SVG's ``points`` of a line."""


@dataclass(frozen=True)
class Bar:
    """The loss of a layer; bars stand side by side in the graph's order."""

    x: float
    y: float
    width: float
    height: float
    label: str
    quantized: bool


def curves(choices: Sequence[Choice]) -> list[Curve]:
    """Return the loss against size, and against time where graphs were timed.

    A curve of fewer than two points is left out.
    """
    judged = [choice for choice in choices if choice.lost is not None]
    timed = [choice for choice in judged if choice.speedup]
    size = _curve("size", judged, lambda choice: choice.size_bytes, _bytes)
    time = _curve("time", timed, lambda choice: 1 / (choice.speedup or 1), _share_of_time)
    return [curve for curve in (size, time) if len(curve.points) > 1]


def bars(prices: Sequence[LayerPrice]) -> list[Bar]:
    """Return a bar for each layer that was priced; the tallest is the greatest loss."""
    most = max((price.lost for price in prices), default=0.0) or 1.0
    step = (WIDTH - 2 * MARGIN) / max(len(prices), 1)
    return [
        Bar(
            x=round(MARGIN + index * step, 1),
            y=round(HEIGHT - MARGIN - _height(price.lost / most), 1),
            width=round(0.8 * step, 1),
            height=round(_height(price.lost / most), 1),
            label=f"{isolated(price.node)}: {percent(price.lost, 2)} lost, {gain(price)} saved,"
            f" {'quantized' if price.quantized else 'in float'}",
            quantized=price.quantized,
        )
        for index, price in enumerate(prices)
    ]


def gain(price: LayerPrice) -> str:
    """Return what a layer saves, in words."""
    if price.unit == "bytes":
        return scaled(int(price.gain), "B").text
    return f"{percent(price.gain, 1)} of the time"


def _height(share: float) -> float:
    return max(max(share, 0.0) * (HEIGHT - 2 * MARGIN), 1.0)


def _curve(
    name: str,
    choices: Sequence[Choice],
    across: Callable[[Choice], float],
    words: Callable[[float], str],
) -> Curve:
    right = max(map(across, choices), default=0.0) or 1.0
    top = max((choice.lost or 0.0 for choice in choices), default=0.0) or 1.0

    def place(choice: Choice) -> tuple[float, float]:
        x = MARGIN + across(choice) / right * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - max(choice.lost or 0.0, 0.0) / top * (HEIGHT - 2 * MARGIN)
        return round(x, 1), round(y, 1)

    points = [
        Point(
            *place(choice),
            label=f"{isolated(choice.title)}: {words(across(choice))},"
            f" {percent(choice.lost or 0.0, 2)} lost" + ", chosen" * choice.chosen,
            chosen=choice.chosen,
        )
        for choice in choices
    ]
    front, lowest = list[str](), -1.0
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if point.y > lowest:
            front.append(f"{point.x},{point.y}")
            lowest = point.y
    return Curve(
        name,
        f"{name}, up to {words(right)}",
        f"loss, up to {percent(top, 2)}",
        points,
        " ".join(front),
    )


def _bytes(size: float) -> str:
    return scaled(int(size), "B").text


def _share_of_time(share: float) -> str:
    return f"{percent(share)} of the time"
