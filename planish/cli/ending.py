"""How a command ends that is ended: by Ctrl-C, by SIGTERM, or with its terminal."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

INTERRUPTED = 130
"""What a command is left with by Ctrl-C."""


class _Last:
    """The signal that ended the command."""

    number: int = signal.SIGINT


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Have Ctrl-C end the process on the spot, as long as it has begun nothing but its imports.

    Where an import is interrupted, a traceback comes, or what a package in C makes of it: an error
    of its own, or a crash.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:  # a shell that has put us aside ignores it
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def end_as_interrupted(*numbers: signal.Signals) -> None:
    """Take signals as Ctrl-C that would end us at once, and leave what we have started."""
    for number in numbers:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def exit_code() -> int:
    """Return the exit code of a command that was interrupted, as a shell has it."""
    return 128 + _Last.number


def _end(_number: int, _frame: object) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), b"planish: stopped.\n")
    os._exit(INTERRUPTED)


def _interrupt(number: int, _frame: object) -> None:
    _Last.number = number
    raise KeyboardInterrupt
