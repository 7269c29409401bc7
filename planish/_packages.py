"""Frameworks that a function needs, imported when it is called."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from planish.errors import MissingPackage


def package(name: str, *others: str, found_only: bool = False) -> Any:
    """Return a package, if it and the other named packages are installed.

    Args:
        name: the package to import.
        others: packages that it needs besides.
        found_only: do not import it, and return None.

    Raises:
        MissingPackage: one of them is not installed.
    """
    missing = [needed for needed in (name, *others) if find_spec(needed) is None]
    if missing:
        raise MissingPackage(
            f"This needs {' and '.join(missing)}: run pip install {' '.join(missing)}."
        )
    return None if found_only else import_module(name)
