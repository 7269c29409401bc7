"""Values that are made once and never changed, and what is asked for in a request."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: made once, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def words(name: str, _: Any = None) -> str:
    """Return the title of a field that is given none: its name, as a person would write it."""
    return name.replace("_", " ").capitalize()


class Asked(BaseModel):
    """A part of a request: an unknown field is refused, and so is a value of another type.

    The titles of its fields are what forms call them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, field_title_generator=words)
