"""Channel pruning with training: at once, or in rounds of cutting and training."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.steps import Prune, Skipped
from app.domain.steps.recover import Recover
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.learning.recovery import recover
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import timetable
from workers.compression.methods.prune.channels import changes, prune_channels
from workers.compression.samples.context import Context

Advance = Callable[[float], None]

_CUT = 0.2
"""Of a round's progress; the rest is training."""


def prune_in_rounds(
    model: ir.Model, parameters: Prune, context: Context, advance: Advance
) -> Outcome:
    """Cut channels and train, as often as the schedule says.

    Args:
        model: the graph; not changed.
        parameters: what to remove, and when.
        context: data, seed, threads.
        advance: told the fraction done.

    Returns:
        The graph as it is, and not trained, where nothing can be cut.
    """
    plan = _plan(parameters)
    current, gone, cut = model.clone(), 0.0, False
    skipped: list[Skipped] = []
    for index, (share, training) in enumerate(plan):
        cutting, learning = _spans(advance, index, len(plan))
        if share > gone:
            ratio = 1 - (1 - share) / (1 - gone)
            step = parameters.model_copy(update={"ratio": ratio})
            smaller, skipped = prune_channels(current, step, context, cutting)
            cut = cut or fingerprint(smaller) != fingerprint(current)
            if not cut:
                return Outcome(model, skipped=skipped)
            current, gone = smaller, share
        if training is not None:
            current = recover(current, training, context, learning, name=f"round-{index}")
    return Outcome(current, changes(model, current), skipped)


def _spans(advance: Advance, index: int, count: int) -> tuple[Advance, Advance]:
    """Return how a round tells of its cut, and of its training."""

    def cutting(done: float) -> None:
        advance((index + _CUT * done) / count)

    def learning(done: float) -> None:
        advance((index + _CUT + (1 - _CUT) * done) / count)

    return cutting, learning


def _plan(parameters: Prune) -> list[tuple[float, Recover | None]]:
    """Return the share that is gone in each round, and the training that follows it.

    Epochs are dealt out so that the cuts lie between ``begin`` and ``end`` of the training; with
    fewer epochs than parts, cuts of the same epoch are one.
    """
    wish = parameters.recover
    if wish is None or parameters.schedule == "one_shot":
        return [(timetable.target(parameters), wish)]
    parts = [timetable.part_at(parameters, epoch / wish.epochs) for epoch in range(wish.epochs)]
    parts[-1] = parameters.iterations
    rounds: list[tuple[float, Recover | None]] = []
    for part in dict.fromkeys(parts):
        epochs = parts.count(part)
        minutes = wish.minutes * epochs / wish.epochs
        share = timetable.share_of(parameters, part) if part else 0.0
        rounds.append((share, wish.model_copy(update={"epochs": epochs, "minutes": minutes})))
    return rounds
