"""How a command ends that is ended: by Ctrl-C, by SIGTERM, or with its terminal."""

import signal

INTERRUPTED = 130
"""What a command is left with by Ctrl-C."""


class _Last:
    """The signal that ended the command."""

    number: int = signal.SIGINT


def end_as_interrupted() -> None:
    """Take SIGTERM, and the end of the terminal, as Ctrl-C.

    They would end us at once, and leave what we have started.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def exit_code() -> int:
    """Return the exit code of a command that was interrupted, as a shell has it."""
    return 128 + _Last.number


def _interrupt(number: int, _frame: object) -> None:
    _Last.number = number
    raise KeyboardInterrupt
