"""A reason for refusing a request, and why a model cannot be trained."""

from dataclasses import dataclass

from app.domain.models import ModelDescription, quantized_operators
from app.domain.problems import Problem


@dataclass(frozen=True)
class Fault:
    """A reason for refusing a request, and its kind of problem."""

    kind: type[Problem]
    pointer: str
    reason: str
    index: int | None = None


def obstacle(model: ModelDescription | None) -> str | None:
    """Return why a model cannot be trained; None if no reason is known."""
    if model is None or model.trainable is not False:
        return None
    named = [f"'{skipped.node}': {skipped.reason}" for skipped in model.untrainable[:3]]
    if already := quantized_operators(model.operators):
        named.append(
            f"it is quantized already (it holds {', '.join(already[:5])}): upload it as it was"
            " before that"
        )
    return f"{'; '.join(named)}. Leave 'recover' out, or choose a method that needs no training."
