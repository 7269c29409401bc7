"""Networks that are made up: what a pipeline costs and loses on each, from a table drawn at random.

Each method bears a share of its own, and beyond it the loss rises by a power of its own; training
wins some of it back. So no strategy can know a table, and none is drawn in a strategy's favour.
"""

import random
from collections.abc import Callable, Sequence

from app.domain.searches import Goal, Outcome
from app.domain.steps import AnyStep, Prune
from app.domain.steps.distill import Derived

Judge = Callable[[Sequence[AnyStep]], Outcome]

KINDS = ("channel", "unstructured", "low_rank", "distill", "cluster", "quantize")


def landscape(goal: Goal, seed: int, bound: float = 0.01) -> Judge:
    """Return what judges pipelines by a table."""
    rng = random.Random(seed)
    bears = {kind: rng.uniform(0.05, 0.97) for kind in KINDS}
    power = {kind: rng.uniform(1.5, 6.0) for kind in KINDS}
    gain = {kind: rng.uniform(0.3, 1.0) if goal == "latency" else 0.97 for kind in KINDS}
    bits = {"static": 0.3, "qat": 0.3, "dynamic": 0.3, "float16": 0.5, "weight_only": 0.25}
    slower = {mode: rng.uniform(0.5, 2.0) for mode in bits}
    lost = {mode: 10 ** rng.uniform(-4, -1) for mode in bits}
    auto = rng.uniform(0.4, 1.0) if goal == "latency" else rng.uniform(0.2, 0.35)
    heals, together = rng.uniform(0.2, 1.0), rng.uniform(0.8, 1.6)
    offset = rng.uniform(-0.004, 0.002)
    fewest, steep = rng.uniform(0.6, 0.9), rng.uniform(1.5, 6.0)

    def judge(steps: Sequence[AnyStep]) -> Outcome:
        cost, drop = 1.0, 0.0
        for step in steps:
            kind, amount = _amount(step)
            epochs = step.recover.epochs if step.recover else 0
            if step.method == "quantize":
                if step.mode == "auto":
                    cost, drop = cost * auto, drop + bound * 0.3 * (auto < 0.9)
                    continue
                if step.ratio is not None:
                    cost *= 1 - step.ratio
                    drop += bound * (step.ratio / fewest) ** steep
                    continue
                cost *= bits[step.mode] if goal == "size" else slower[step.mode]
                drop += lost[step.mode] / (1 + epochs) ** heals
                continue
            cost *= 1 - gain[kind] * amount
            drop += bound * (amount / bears[kind]) ** power[kind] / (1 + epochs / 5) ** heals
        drop = min(drop * together ** (len(steps) - 1) + offset, 0.9)
        holds = drop <= bound
        return Outcome(seconds=30, cost=cost, drop=drop, holds=holds, pays=holds and cost < 1)

    return judge


def _amount(step: AnyStep) -> tuple[str, float]:
    """Return the kind of a step, and the share of the cost that it takes away at most."""
    match step.method:
        case "prune":
            assert isinstance(step, Prune)
            channel = step.granularity == "channel"
            return ("channel", step.ratio) if channel else ("unstructured", step.sparsity * 0.9)
        case "low_rank":
            return "low_rank", step.ratio
        case "distill":
            assert isinstance(step.student, Derived)
            scale = step.student.derive
            return "distill", 1 - scale.width**2 * scale.depth
        case "cluster":
            return "cluster", 0.875 if step.clusters <= 16 else 0.75
        case _:
            return "quantize", 1.0
