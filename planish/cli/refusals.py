"""What a service refuses, with the names that a command line has for it."""

import re

_POINTER = re.compile(r"#(?:/[\w~.-]+)+")
_OPTIONS = {
    "data": "--generated-data",
    "dataset": "--data",
    "max_quality_drop": "--max-drop",
    "minimize": "--minimize",
    "minutes": "--minutes",
    "seed": "--seed",
    "target": "--target",
    "trials": "--trials",
}
"""What fields of a request are called on a command line."""


def in_words(message: str) -> str:
    """Return a message with the names of options and steps in place of JSON pointers."""
    return _POINTER.sub(lambda found: _named(found[0]), message)


def _named(pointer: str) -> str:
    parts = pointer.split("/")[1:]
    if parts[0] == "steps" and len(parts) > 1 and parts[1].isdecimal():
        return ", ".join((f"step {int(parts[1]) + 1}", *parts[2:]))
    return _OPTIONS.get(parts[-1], " ".join(parts))
