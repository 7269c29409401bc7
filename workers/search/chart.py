"""What a model's chart of sensitivity lets a search expect before its first trial."""

from app.domain.searches import Goal
from app.domain.sensitivity import Kind, Saved, Sensitivity


def expected_ratio(chart: Sensitivity, kind: Kind, goal: Goal, tolerance: float) -> float:
    """Return the share of what is minimised that forms of one kind save within a tolerance.

    Layers take the forms that save most for what they cost, one after the other, while the sum of
    the costs is within the tolerance; a layer that takes a smaller form gives up the one before.

    Args:
        chart: of the model.
        kind: of forms, ``channels`` say.
        goal: what is minimised.
        tolerance: the share of the outputs' variance that may be lost.
    """
    columns = [at for at, form in enumerate(chart.forms) if form.kind == kind]
    cells = []
    for layer, (costs, saved) in enumerate(zip(chart.cost, chart.saved, strict=True)):
        for column in columns:
            cost, gain = costs[column], _gain(saved[column], goal)
            if cost is not None and gain > 0:
                cells.append((cost / gain, layer, cost, gain))
    taken: dict[int, tuple[float, float]] = {}
    for _, layer, cost, gain in sorted(cells):
        before = taken.get(layer, (0.0, 0.0))
        if gain <= before[1]:
            continue
        total = sum(each for each, _ in taken.values())
        if total - before[0] + cost <= tolerance:
            taken[layer] = (cost, gain)
    whole = sum(_of_layers(chart, goal))
    return min(sum(gain for _, gain in taken.values()) / whole, 1.0) if whole else 0.0


def _gain(saved: Saved | None, goal: Goal) -> float:
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
