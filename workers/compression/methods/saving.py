"""Reaches a requested saving of latency, and reports a shortfall."""

from collections.abc import Callable
from typing import TypeVar

import onnx_ir as ir

from app.domain.percentages import percent
from app.domain.steps import Skipped
from workers.compression.measure.latency import time_saved
from workers.compression.samples.context import Context, Feeds

WHOLE = "the whole graph"
"""Replaces a node's name in a refusal that concerns all nodes."""

Choice = TypeVar("Choice")

_ROUNDS = 5
"""The greatest number of attempts, each of which is measured on the whole graph."""

_CLOSE, _TOO_MUCH = 0.01, 0.05
"""The shares of the time by which the ratio may be missed, or exceeded."""

_CORRECTION = 0.8
"""The share of the difference that is added to the target of the next attempt."""

_LEAST, _MOST = 0.02, 0.98
"""The limits of the target."""

_TOLERATED = 0.02
"""The difference to the ratio that is not reported as a shortfall."""


def reach(
    model: ir.Model,
    ratio: float,
    attempt: Callable[[float], tuple[Choice, ir.Model] | None],
    feeds: Feeds,
    context: Context,
) -> tuple[Choice, float]:
    """Correct the target of a method until the whole graph saves the requested share of time.

    The saving of the graph differs from the estimate for single layers: other operators take time
    too.

    Args:
        model: the graph; not changed.
        ratio: the share of its time to save.
        attempt: returns, for a target, a choice and the graph with that choice; None if it made the
            same choice before. Its first result is not None.
        feeds: the inputs of a run.
        context: threads, and the events of the saved latency.

    Returns:
        The choice that saves least among those that save enough, else the choice that saves most;
        and the share of time that it saves.
    """
    target = ratio
    attempts: list[tuple[float, Choice]] = []
    for _ in range(_ROUNDS):
        result = attempt(target)
        if result is None:
            break
        choice, smaller = result
        share = time_saved(model, smaller, feeds, context.threads)
        context.tell("latency_saved", share, None)
        attempts.append((share, choice))
        if -_CLOSE <= share - ratio <= _TOO_MUCH:
            break
        target = min(_MOST, max(_LEAST, target + _CORRECTION * (ratio - share)))
    sufficient = [measured for measured in attempts if measured[0] >= ratio - _CLOSE]
    pick = min if sufficient else max
    share, choice = pick(sufficient or attempts, key=lambda measured: measured[0])
    return choice, share


def shortfall(ratio: float, measure: str, saved_share: float) -> list[Skipped]:
    """Return a refusal for the whole graph if less was saved than requested.

    Args:
        ratio: the requested share.
        measure: the cost that the shares refer to, such as ``macs``.
        saved_share: the share that was saved.
    """
    if saved_share >= ratio - _TOLERATED:
        return []
    reason = (
        f"{percent(ratio)} of the {measure} should go, and the layers can give"
        f" {percent(saved_share)} at most"
    )
    return [Skipped(node=WHOLE, reason=reason)]
