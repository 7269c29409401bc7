"""Format ``source``: the result's weights, under the names and in the layouts of an upload."""

from collections.abc import Iterator, Sequence

from app.domain.layer_forms import held_by_all
from app.domain.steps import Step
from app.domain.steps.distill import Architecture, Derived, Distill, Uploaded
from app.domain.steps.elastic import Subnet
from app.domain.steps.low_rank import LowRank
from app.domain.steps.quantize import Quantize

_HELD = held_by_all(["source"])


def home_of(steps: Sequence[Step]) -> tuple[str | None, int]:
    """Return whose layers the result of some steps has.

    Returns:
        The id of the model that was uploaded as a student, or None for the job's own; and the
        index of the first step that works on it.
    """
    home: tuple[str | None, int] = None, 0
    for index, step in enumerate(steps):
        if isinstance(step, Distill) and isinstance(step.student, Uploaded):
            home = step.student.model, index + 1
    return home


def obstacles(steps: Sequence[Step]) -> Iterator[tuple[int, str]]:
    """Yield the steps after which no layer of the upload is left to go back to, and why."""
    first = home_of(steps)[1]
    for index, step in enumerate(steps):
        if index >= first and (reason := _obstacle(step)) is not None:
            yield index, reason


def _obstacle(step: Step) -> str | None:
    if isinstance(step, LowRank):
        return "it makes two layers of one, which the upload does not have"
    if isinstance(step, Quantize) and step.layer_form is not None and step.layer_form not in _HELD:
        return f"mode '{step.mode}' puts other operators in the place of layers"
    if isinstance(step, Subnet):
        return "it may leave out whole blocks of the upload"
    if isinstance(step, Distill) and isinstance(step.student, Architecture):
        return "its student is a network that was built here, not the upload"
    if isinstance(step, Distill) and isinstance(step.student, Derived):
        return "its student has fewer layers" if step.student.derive.depth < 1 else None
    return None
