"""Values that are made once and never changed, and what is asked for in a request."""

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from app.domain.fault_words import SAID


class Frozen(BaseModel):
    """A value: made once, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def words(name: str, _: Any = None) -> str:
    """Return the title of a field that is given none: its name, as a person would write it."""
    return name.replace("_", " ").capitalize()


_MOST_FAULTS = 100
"""Of which each is told in words of its own."""


def _is_unknown(fault: ErrorDetails) -> bool:
    """Return whether a model has no field of a name, itself and not one of its parts."""
    return fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1


class Asked(BaseModel):
    """A part of a request: an unknown field is refused, and so is a value of another type.

    The titles of its fields are what forms call them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, field_title_generator=words)

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Say beside an unknown field which ones there are."""
        try:
            return handler(value)
        except ValidationError as error:
            if error.error_count() > _MOST_FAULTS:
                raise
            faults = error.errors(include_url=False)
            if not any(map(_is_unknown, faults)):
                raise
            said = [cls._fault(fault) for fault in faults]
            raise ValidationError.from_exception_data(error.title, said) from None

    @classmethod
    def _fault(cls, fault: ErrorDetails) -> InitErrorDetails:
        kind: str | PydanticCustomError = fault["type"]
        if _is_unknown(fault):
            words = f"is not a field that is known here: there are {', '.join(cls.model_fields)}"
            kind = PydanticCustomError(SAID, words)
        elif kind == SAID:
            kind = PydanticCustomError(SAID, fault["msg"])
        return InitErrorDetails(
            type=kind, loc=fault["loc"], input=fault["input"], ctx=fault.get("ctx", {})
        )
