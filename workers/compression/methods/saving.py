"""How a method comes to save a share of a graph's time, and says so where it does not."""

from collections.abc import Callable
from typing import TypeVar

import onnx_ir as ir

from app.domain.steps import Skipped
from workers.compression.measure.latency import saved
from workers.compression.samples.context import Context, Feeds

WHOLE = "the whole graph"
"""In place of a node's name."""

Choice = TypeVar("Choice")

_ROUNDS = 5
"""Times that the whole graph is measured and the wish corrected."""

_CLOSE, _TOO_MUCH = 0.01, 0.05
"""Shares of the time by which the asked ratio may be missed, or passed."""

_CORRECTION = 0.8
"""Of what was missed is wished for in addition."""

_LEAST, _MOST = 0.02, 0.98
"""What may be wished for."""

_UNSAID = 0.02
"""By how much a ratio may be missed without a word."""


def reach(
    model: ir.Model,
    ratio: float,
    attempt: Callable[[float], tuple[Choice, ir.Model] | None],
    feeds: Feeds,
    context: Context,
) -> tuple[Choice, float]:
    """Correct what is wished for until the whole graph saves the share of time that is asked for.

    What single layers promise is not what the graph gives: its other operators take time too.

    Args:
        model: the graph; not changed.
        ratio: the share of its time to save.
        attempt: from a wish to a choice and the graph that it gives; None where there is nothing
            but what was tried before. Its first answer is not None.
        feeds: what a run reads.
        context: threads, and where to tell what was saved.

    Returns:
        The choice that saves enough with the least, else the one that saves most; and the share.
    """
    wish = ratio
    tried: list[tuple[float, Choice]] = []
    for _ in range(_ROUNDS):
        found = attempt(wish)
        if found is None:
            break
        choice, smaller = found
        share = saved(model, smaller, feeds, context.threads)
        context.tell("latency_saved", share, None)
        tried.append((share, choice))
        if -_CLOSE <= share - ratio <= _TOO_MUCH:
            break
        wish = min(_MOST, max(_LEAST, wish + _CORRECTION * (ratio - share)))
    enough = [each for each in tried if each[0] >= ratio - _CLOSE]
    pick = min if enough else max
    share, choice = pick(enough or tried, key=lambda each: each[0])
    return choice, share


def shortfall(ratio: float, what: str, gone: float) -> list[Skipped]:
    """Say so where less is gone than was asked for.

    Args:
        ratio: the share that was asked for.
        what: it is a share of.
        gone: the share that is gone.
    """
    if gone >= ratio - _UNSAID:
        return []
    reason = f"{ratio:.0%} of the {what} were to be removed; {gone:.0%} is what layers can give"
    return [Skipped(node=WHOLE, reason=reason)]
