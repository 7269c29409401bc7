"""Options whose values are checked as they are read, before anything is asked or started."""

import os
from pathlib import Path

import typer


def service_url(context: typer.Context, url: str | None) -> str | None:
    """Return the URL of the service that is named with a command, or before it."""
    return url or context.obj


def share(text: str) -> float:
    """Return a share that was typed as ``0.05`` or ``5%``.

    Raises:
        BadParameter: it is none, or negative.
    """
    from app.domain import percentages

    try:
        value = percentages.share(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None
    if value < 0:
        raise typer.BadParameter(f"{text!r} is below 0: name 0 or more.")
    return value


def drop(text: str) -> float:
    """Return how much quality may be lost, typed as a share.

    Raises:
        BadParameter: it is no share, or more than all, which only ``500%`` says on purpose.
    """
    value = share(text)
    if value > 1 and "%" not in text:
        raise typer.BadParameter(
            f"{text} is more than all: write {text}% for {text} in a hundred, or"
            f" {100 * value:g}% for {text} times."
        )
    return value


def samples(path: Path | None) -> Path | None:
    """Return a file of data, if it begins as one.

    Raises:
        BadParameter: it is none; it would be refused once it is uploaded.
    """
    if path is None:
        return None
    from app.domain import contents

    with path.open("rb") as file:
        head = file.read(contents.HEAD_BYTES)
    if contents.data_format(head) is None:
        raise typer.BadParameter(contents.unknown("dataset", head))
    return path


def place(path: Path | None) -> Path | None:
    """Return where a file is to be written, if that is possible.

    Raises:
        BadParameter: there is no such directory, or it cannot be written to.
    """
    if path is None:
        return None
    directory = path if path.is_dir() else path.parent
    if not directory.is_dir():
        raise typer.BadParameter(f"There is no directory {str(directory)!r}: make it first.")
    if not os.access(directory, os.W_OK):
        raise typer.BadParameter(f"Nothing can be written into {str(directory)!r}.")
    return path


def file_place(path: Path | None) -> Path | None:
    """Return where a file is to be written that has no name of its own.

    Raises:
        BadParameter: it cannot be written there, or that is a directory.
    """
    if path is not None and path.is_dir():
        raise typer.BadParameter(f"{str(path)!r} is a directory: name a file in it.")
    return place(path)
