"""What a person sees who waits: how far a job is, or what is being done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from planish.types import Event

Show = Callable[[Event], None]


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show what is being done while the block runs, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")
        yield lambda stage: progress.update(task, description=stage, refresh=True)


@contextmanager
def bar(wanted: bool | None) -> Iterator[Show]:
    """Show a bar on standard error while the block runs; events move it.

    Args:
        wanted: whether to show it; None: where standard error is a terminal.
    """
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("queued", total=1.0)

        def show(event: Event) -> None:
            if event.kind == "progress":
                progress.update(
                    task, completed=event.data["progress"], description=event.data["stage"]
                )

        yield show
