"""Channel pruning with training: in one round, or in several rounds of cutting and training."""

import onnx_ir as ir

from app.domain.steps import Prune, Skipped
from app.domain.steps.recover import Recover
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.kept import Kept, after_all
from workers.compression.learning.recovery import recover
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import schedule
from workers.compression.methods.prune.channels import changes, prune_channels
from workers.compression.progress import Advance, span, turn
from workers.compression.samples.context import Context

_CUT = 0.2
"""The share of a round's progress that is cutting; the rest is training."""


def prune_in_rounds(
    model: ir.Model, parameters: Prune, context: Context, advance: Advance
) -> Outcome:
    """Cut channels and train, as often as the schedule says.

    Args:
        model: the graph; not changed.
        parameters: the criterion, the share to remove and the schedule.
        context: data, seed, threads.
        advance: called with the fraction done.

    Returns:
        The pruned graph. If nothing can be cut: the graph as it is, not trained.
    """
    plan = _plan(parameters)
    current, removed_share, has_cut = model.clone(), 0.0, False
    skipped: list[Skipped] = []
    cuts: list[Kept] = []
    for index, (share, training) in enumerate(plan):
        this_round = turn(advance, index, len(plan))
        cutting, learning = span(this_round, 0, _CUT), span(this_round, _CUT, 1)
        if share > removed_share:
            ratio = 1 - (1 - share) / (1 - removed_share)
            step = parameters.model_copy(update={"ratio": ratio})
            smaller, skipped, cut = prune_channels(current, step, context, cutting)
            cuts.append(cut)
            has_cut = has_cut or fingerprint(smaller) != fingerprint(current)
            if not has_cut:
                return Outcome(model, skipped=skipped)
            current, removed_share = smaller, share
        if training is not None:
            current = recover(current, training, context, learning, name=f"round-{index}")
    return Outcome(current, changes(model, current), skipped, kept=after_all(cuts))


def _plan(parameters: Prune) -> list[tuple[float, Recover | None]]:
    """Return the share that is removed after each round, and the training that follows.

    Epochs are distributed so that the cuts lie between ``begin`` and ``end`` of the training. If
    there are fewer epochs than parts, the cuts of one epoch are merged.
    """
    recovery = parameters.recover
    if recovery is None or parameters.schedule == "one_shot":
        return [(schedule.target(parameters), recovery)]
    parts = [
        schedule.part_at(parameters, epoch / recovery.epochs) for epoch in range(recovery.epochs)
    ]
    parts[-1] = parameters.iterations
    rounds: list[tuple[float, Recover | None]] = []
    for part in dict.fromkeys(parts):
        epochs = parts.count(part)
        minutes = recovery.minutes * epochs / recovery.epochs
        share = schedule.share_of(parameters, part) if part else 0.0
        rounds.append((share, recovery.model_copy(update={"epochs": epochs, "minutes": minutes})))
    return rounds
