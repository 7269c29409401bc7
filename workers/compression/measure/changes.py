"""Notes on steps that changed nothing or made the file larger."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.directory import FinishedStep
from app.domain.models import quantized_operators
from app.domain.problems import NothingChanged
from app.domain.reports import Measures, StepReport
from app.domain.steps import Skipped, Step

_REASONS = 3
_NAME = 80
"""Letters of a node's name that are shown."""


def notes(step: Step, done: FinishedStep, before: Measures, after: Measures) -> list[str]:
    """Return the notes of a step; the first says that it changed nothing, or made the file larger.

    Args:
        step: the step.
        done: its report.
        before: the figures before the step; of the first step, of the upload.
        after: the figures after the step.
    """
    if not done.changed:
        reasons = _reasons(done.skipped, pays=_pays(step.method, step.model_dump()))
        return [f"It changed nothing: {reasons}.", *done.notes]
    was, now = before.size_bytes, after.size_bytes
    if now > was:
        return [f"It made the file LARGER: {was:,} → {now:,} bytes.", *done.notes]
    return done.notes


def nothing_changed(
    steps: Sequence[StepReport], operators: Mapping[str, int]
) -> NothingChanged | None:
    """Return the problem of a job in which no step changed anything, None where one did.

    Where every step was to do what pays, the model as it was is a right answer.

    Args:
        steps: the reports of the steps.
        operators: the operators of the original, with their counts.
    """
    # Without steps, a model was to be converted alone.
    if any(step.changed for step in steps) or all(_does_what_pays(step) for step in steps):
        return None
    words = [why_nothing(steps)]
    if already := quantized_operators(operators):
        words.append(
            f"The model is quantized already (it holds {', '.join(already[:5])}): upload it as it"
            " was before that."
        )
    words.append(
        "The artifact is the upload's graph, with the same nodes and weights. Try other parameters,"
        " or another method."
    )
    return NothingChanged(" ".join(words))


def _does_what_pays(step: StepReport) -> bool:
    return _pays(step.method, step.parameters)


def _pays(method: str, parameters: Mapping[str, Any]) -> bool:
    """Return whether a step was to do only what makes the model faster or smaller."""
    return method == "quantize" and parameters.get("mode") == "auto"


def why_nothing(steps: Sequence[StepReport]) -> str:
    """Return for each step the reasons why it changed nothing."""
    return " ".join(
        f"Step {step.index + 1} ({step.method}):"
        f" {_reasons(step.skipped, pays=_does_what_pays(step))}."
        for step in steps
    )


def _reasons(skipped: Sequence[Skipped], *, pays: bool) -> str:
    """Return the most frequent reasons, each with the number of nodes and the first ones."""
    if not skipped and pays:
        return "nothing that it tried makes this model faster or smaller within the allowed loss"
    if not skipped:
        return "the model has no layer that it acts on"
    nodes: dict[str, list[str]] = {}
    for skip in skipped:
        nodes.setdefault(skip.reason.rstrip("."), []).append(skip.node)
    most = sorted(nodes.items(), key=lambda entry: -len(entry[1]))[:_REASONS]
    return "; ".join(f"{reason} ({_named(names)})" for reason, names in most)


def _named(nodes: Sequence[str]) -> str:
    """Return the name of the first node, and the number of nodes."""
    first = f"'{nodes[0][:_NAME]}'"
    return first if len(nodes) == 1 else f"{len(nodes)} nodes, {first} first"
