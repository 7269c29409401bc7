"""Where the commands print: wrapped for a person's terminal, unwrapped for a program."""

import sys
from typing import Protocol

from rich.console import Console

_UNWRAPPED = 10_000
"""Columns that no sentence and no table of ours reaches."""


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error.

    A line that no terminal shows is never wrapped: whoever reads it looks for its words. Brackets
    are brackets, and colons are colons; what has a style is a ``Text``.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNWRAPPED
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


class Fidelity(Protocol):
    """How near outputs are to the original's, as the service and ``compare`` say it."""

    @property
    def agreement(self) -> float:
        """The share of answers that are the same."""

    @property
    def explained(self) -> float | None:
        """The share of the original's variance that is kept."""

    @property
    def samples(self) -> int | None:
        """How many samples were compared."""

    @property
    def bounded(self) -> str:
        """Which of them counts."""


def nearness(fidelity: Fidelity) -> tuple[str, str, str]:
    """Return the row of a table that says how near a model is to the first one: what counts."""
    from app.domain.percentages import few, percent_kept

    of = f", {said}" if (said := few(fidelity.samples)) else ""
    if fidelity.bounded == "agreement" or fidelity.explained is None:
        return f"same answers as the first{of}", "", percent_kept(fidelity.agreement)
    return f"variance of the first that is kept{of}", "", percent_kept(fidelity.explained)
