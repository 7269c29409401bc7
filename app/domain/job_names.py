"""What jobs are called: by the name that people gave them, else by what they do to what."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from app.domain.frozen import words
from app.domain.request_parts import Objective
from app.domain.steps import Step

LESS = {"latency": "time", "size": "size", "macs": "multiplications"}
"""What may be minimised, as people call it."""

_MOST = 3
"""Parameters of a step that are told."""


class Work(Protocol):
    """What a job was asked to do."""

    @property
    def steps(self) -> list[Any] | None:
        """The steps in their order; None for a search, and for a measurement of layers."""

    @property
    def objective(self) -> Objective | None:
        """What a search looks for; None for other jobs."""

    @property
    def measure(self) -> str | None:
        """What is measured of a model; None for other jobs."""

    @property
    def deliver(self) -> list[Any]:
        """The formats of the result."""


def title(name: str | None, work: Work, model: str | None) -> str:
    """Return what a job is called in lists.

    Args:
        name: what people call it.
        work: what it does.
        model: what its model is called; None where that was deleted, or has no name.
    """
    return name or ": ".join(filter(None, (model, work_of(work))))


def work_of(work: Work) -> str:
    """Return what a job does, with what tells it from others, in few words."""
    if work.steps:
        return methods_of(work.steps)
    if work.measure:
        return "Measurement of layers"
    if work.objective:
        return f"Search for less {LESS[work.objective.minimize]}"
    return f"Other formats ({', '.join(work.deliver)})"


def methods_of(steps: Iterable[Step]) -> str:
    """Return steps in their order: their methods, and the parameters that are not as usual."""
    return " → ".join(map(_step, steps))


def _step(step: Step) -> str:
    changed = [*_told(step.model_dump(mode="json", exclude_defaults=True, exclude={"method"}))]
    more = ["…"] if len(changed) > _MOST else []
    return f"{step.title} ({', '.join(changed[:_MOST] + more)})" if changed else step.title


def _told(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield parameters as a person would name them; lists are left out."""
    for name, value in parameters.items():
        called = words(name).lower()
        if isinstance(value, dict):
            yield from _told(value)
        elif isinstance(value, bool):
            yield called if value else f"no {called}"
        elif isinstance(value, int | float):
            yield f"{called} {value:g}"
        elif isinstance(value, str):
            yield f"{called} {value}"
