"""Where the commands print: wrapped for a person's terminal, unwrapped for a program."""

import sys

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
