"""A file at an address, and what keeps it from being read."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from app.domain.sources import Address


@dataclass(frozen=True)
class RemoteFile:
    """A file that is about to arrive."""

    size_bytes: int | None
    """As announced; None where it was not."""
    chunks: AsyncIterator[bytes]


Permit = Callable[[Address], None]
"""Raises FetchFailed for an address that may not be fetched from."""


class Interrupted(Exception):  # noqa: N818 (it says what happened)
    """The file could not be read this time; later it may be. The text says why."""
