"""What is wrong with a value, in plain words: one table for all who are told.

Pydantic's own words are for those who write its models. Ours follow the name of what is wrong, as
in ``Seed: must be 0 or more``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, ErrorDetails, core_schema

SAID = "said"
"""The kind of an error whose message is in plain words."""

_OTHERWISE = "is not what belongs here"


@dataclass(frozen=True)
class Said:
    """The words for any value that a type does not take; part of an ``Annotated`` type.

    It is for types whose rule is no sentence: a pattern, or a choice among unlike things.
    """

    words: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the type's schema, with these words for all that is wrong."""
        return core_schema.custom_error_schema(
            handler(source), custom_error_type=SAID, custom_error_message=self.words
        )


def in_words(fault: ErrorDetails | Mapping[str, Any]) -> str:
    """Return what is wrong with a value, as it follows the value's name.

    Args:
        fault: one of the errors of a ``ValidationError``, with its context.
    """
    kind = fault["type"]
    if kind == SAID:
        return str(fault["msg"])
    words = WORDS.get(kind, _OTHERWISE)
    about = fault.get("ctx", {})
    if callable(words):
        return words(about)
    return words.format_map({name: _figure(value) for name, value in about.items()})


def _figure(value: Any) -> Any:
    """Return a number without a point that says nothing."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _one_of(about: Mapping[str, Any]) -> str:
    expected = str(about.get("expected") or about["expected_tags"])
    several = " or " in expected or ", " in expected
    return f"must be {'one of ' if several else ''}{expected}"


def _least(name: str, nothing: str = "must not be empty") -> Callable[[Mapping[str, Any]], str]:
    def words(about: Mapping[str, Any]) -> str:
        least = about["min_length"]
        return nothing if least == 1 else f"must have {least} {name} or more"

    return words


def _no_json(about: Mapping[str, Any]) -> str:
    where = re.search(r"line \d+ column \d+", str(about["error"]))
    return f"is not JSON: look at {where[0]}" if where else "is not JSON"


def _schemes(about: Mapping[str, Any]) -> str:
    named = about["expected_schemes"].replace("'", "").replace(", ", " or ").split(" or ")
    return f"must begin with {' or '.join(f'{scheme}://' for scheme in reversed(named))}"


_LIST = 'must be a list, such as [1, 2] or ["a", "b"]'
_OBJECT = "must be an object with fields"
_TEXT = "must be text"
_NUMBER = "must be a number, such as 0.01"
_WHOLE = "must be a whole number, such as 4"
_DAY = "must be a day, such as 2026-01-31"
_MOMENT = "must be a moment, such as 2026-01-31T12:00:00Z"
_ADDRESS = "must be an address, such as https://example.com/hook"

WORDS: Mapping[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "is required",
    "missing_argument": "is required",
    "missing_keyword_only_argument": "is required",
    "union_tag_not_found": "is required",
    "extra_forbidden": "is not a field that is known here",
    "unexpected_keyword_argument": "is not a field that is known here",
    "invalid_key": "has a name that is no text",
    "none_required": "must be left out",
    "literal_error": _one_of,
    "enum": _one_of,
    "union_tag_invalid": _one_of,
    # Numbers.
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} at most",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a number that is not infinite",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "is a whole number with too many digits",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    # Text.
    "string_type": _TEXT,
    "string_unicode": "must be text in UTF-8",
    "string_too_short": _least("characters"),
    "string_too_long": "must have {max_length} characters at most",
    "string_pattern_mismatch": "has a form that is not taken here",
    "string_not_ascii": "must be letters, digits and signs of ASCII",
    "bytes_type": _TEXT,
    "bytes_too_short": _least("bytes"),
    "bytes_too_long": "must have {max_length} bytes at most",
    "bytes_invalid_encoding": "has bytes that cannot be read",
    "path_type": "must be a path",
    "json_type": "must be JSON",
    "json_invalid": _no_json,
    # Lists and objects.
    "too_short": _least("entries", "must have at least one entry"),
    "too_long": "must have {max_length} entries at most",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "iterable_type": _LIST,
    "dict_type": _OBJECT,
    "frozen_dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "recursion_loop": "must not hold itself",
    "recursion_depth_exceeded": "is nested too deeply",
    # Days and moments.
    "date_type": _DAY,
    "date_parsing": _DAY,
    "date_from_datetime_parsing": _DAY,
    "date_from_datetime_inexact": _DAY,
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_object_invalid": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "timezone_aware": f"names no time zone: it {_MOMENT}",
    # Addresses.
    "url_type": _ADDRESS,
    "url_parsing": _ADDRESS,
    "url_syntax_violation": _ADDRESS,
    "url_too_long": "must have {max_length} characters at most",
    "url_scheme": _schemes,
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    # Rules of our own, which have their words.
    "value_error": lambda about: str(about["error"]),
    "assertion_error": lambda about: str(about["error"]),
}
"""By pydantic's kind of error: the words, or what makes them of the error's context."""
