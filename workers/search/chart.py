"""What a model's chart of sensitivity lets a search expect before its first trial."""

from dataclasses import dataclass

from app.domain.searches import Goal
from app.domain.sensitivity import Kind, Saved, Sensitivity

_LEAST = 1e-9
"""Of what all layers take together: a chart may know no time."""

_GAINS = (0.02, 0.97)
"""The least and the greatest gain that is expected: a chart is no proof."""


@dataclass(frozen=True)
class Expectation:
    """What layers lose and save together in the forms that are cheapest for what they save."""

    lost: float
    """The share of the outputs' variance, each layer's loss added up."""
    gain: float
    """The share of what is minimised that is saved, for each share of what is counted."""


def expect(
    chart: Sensitivity, kind: Kind, goal: Goal, amount: float, of: Goal
) -> Expectation | None:
    """Return what it takes to save an amount by forms of one kind; None where they save less.

    Layers take the forms that cost least for what they save, one after the other, over all layers
    at once; a layer that takes a smaller form gives up the one before.

    Args:
        chart: of the model.
        kind: of forms, ``channels`` say.
        goal: what is minimised.
        amount: the share to save.
        of: what the amount is a share of.
    """
    whole = max(sum(_of_layers(chart, of)), _LEAST)
    columns = [at for at, form in enumerate(chart.forms) if form.kind == kind]
    cells = []
    for layer, (costs, saved) in enumerate(zip(chart.cost, chart.saved, strict=True)):
        for column in columns:
            cost, less = costs[column], _saved(saved[column], of)
            if cost is not None and less > 0:
                cells.append((cost / less, layer, column, cost, less))
    taken: dict[int, tuple[int, float, float]] = {}
    for _, layer, column, cost, less in sorted(cells):
        if layer not in taken or less > taken[layer][2]:
            taken[layer] = (column, cost, less)
        share = sum(less for _, _, less in taken.values()) / whole
        if share >= amount:
            gained = sum(
                _saved(chart.saved[at][column], goal) for at, (column, _, _) in taken.items()
            )
            gain = gained / max(sum(_of_layers(chart, goal)), _LEAST) / share
            lost = sum(cost for _, cost, _ in taken.values())
            return Expectation(lost, min(max(gain, _GAINS[0]), _GAINS[1]))
    return None


def _saved(saved: Saved | None, goal: Goal) -> float:
    if saved is None:
        return 0.0
    match goal:
        case "latency":
            return saved.latency_ms or 0.0
        case "size":
            return float(saved.size_bytes)
        case "macs":
            return float(saved.macs)


def _of_layers(chart: Sensitivity, goal: Goal) -> list[float]:
    """Return what is minimised of each layer as it is."""
    match goal:
        case "latency":
            return [layer.latency_ms or 0.0 for layer in chart.layers]
        case "size":
            return [float(layer.size_bytes) for layer in chart.layers]
        case "macs":
            return [float(layer.macs) for layer in chart.layers]
