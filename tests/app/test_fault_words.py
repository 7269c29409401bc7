"""What is wrong with a value is said in plain words, whatever the kind of fault."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import BaseModel, Field, HttpUrl, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from app.domain.datasets import ImageOptions
from app.domain.devices import DeviceRequest
from app.domain.fault_words import SAID, WORDS, in_words
from app.domain.jobs import JobRequest
from app.domain.references import DatasetReference, ModelReference
from app.domain.steps import METHODS
from app.domain.uploads import Sent
from app.domain.webhooks import WebhookChange, WebhookRequest
from app.settings import Settings
from tests.app.service import Service, pointers

OF_PROGRAMS = {
    *("no_such_attribute", "needs_python_object", "frozen_field", "frozen_instance"),
    *("get_attribute_error", "dataclass_exact_type", "named_tuple_type", "iteration_error"),
    *("default_factory_not_called", "ordered_dict_type", "counter_type", "deque_type"),
    *("set_item_not_hashable", "missing_sentinel_error", "ellipsis_error", "is_instance_of"),
    *("is_subclass_of", "callable_type", "arguments_type", "unexpected_positional_argument"),
    *("missing_positional_only_argument", "multiple_argument_values"),
}
"""Faults of Python's objects and calls, which neither text nor JSON has."""
UNUSED = ("date_", "datetime_", "time_", "timezone_", "uuid_", "decimal_", "fraction_", "complex_")
"""Types of which no request has a field; days and moments are read by rules of our own."""

GROUPS = [about.annotation for about in Settings.model_fields.values()]
READ: list[Any] = [
    *(JobRequest, DeviceRequest, ModelReference, DatasetReference, WebhookRequest, WebhookChange),
    *(Sent, ImageOptions, *METHODS, *GROUPS),
]
"""What is read of requests, forms, queries and the environment."""
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    1e300,
    "",
    "x",
    "x" * 5000,
    "ftp://x",
    [],
    [[]] * 2000,
    {},
    {"x": 1},
)
FOREIGN = ("Input should", "String should", "Value error", "List should", "valid", "None", "{")


def placed(schema: dict[str, Any], parts: dict[str, Any]) -> Iterator[Any]:
    """Yield values with something wrong at each of their fields, and inside of those."""
    about = parts[schema["$ref"].split("/")[-1]] if "$ref" in schema else schema
    for branch in (*about.get("anyOf", ()), *about.get("oneOf", ())):
        yield from placed(branch, parts)
    if "items" in about:
        yield from ([value] for value in placed(about["items"], parts))
    fields = about.get("properties", {})
    form = {"method": fields["method"]["const"]} if "method" in fields else {}
    for name, inside in fields.items():
        yield from ({**form, name: value} for value in placed(inside, parts))
    yield from WRONG


def faults(read: type[BaseModel]) -> Iterator[ErrorDetails]:
    """Yield what is found wrong in many objects, and in the same as JSON."""
    schema = read.model_json_schema()
    for body in placed(schema, schema.get("$defs", {})):
        yield from found(partial(read.model_validate, body))
        yield from found(partial(read.model_validate_json, json.dumps(body)))


def found(read: Callable[[], object]) -> list[ErrorDetails]:
    """Return what is found wrong by a reading, without what only follows from another fault."""
    try:
        read()
    except ValidationError as error:
        return [each for each in error.errors() if each["type"] != "default_factory_not_called"]
    return []


@pytest.mark.parametrize("read", READ, ids=lambda read: read.__name__)
def test_no_request_is_refused_in_the_words_of_pydantic(read: type[BaseModel]) -> None:
    said = {(fault["type"], in_words(fault)) for fault in faults(read)}
    assert said
    for kind, words in said:
        assert kind in {SAID, *WORDS}, kind
        assert kind != "string_pattern_mismatch", "a pattern is no sentence: use Said"
        assert not any(foreign in words for foreign in FOREIGN), (kind, words)


def test_every_kind_of_fault_has_words() -> None:
    """A new version of pydantic may have more kinds; there are words for those as well."""
    kinds = {kind for kind in get_args(ErrorType) if not kind.startswith(UNUSED)}
    assert kinds - OF_PROGRAMS <= WORDS.keys()
    assert in_words({"type": "of_tomorrow", "msg": "Input should be"}) == "is not what belongs here"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Annotated[int, Field(ge=0, le=2**32 - 1)], 2**32, "must be 4294967295 at most"),
        (Annotated[float, Field(gt=0)], 0, "must be more than 0"),
        (Annotated[float, Field(lt=0.5)], 0.5, "must be less than 0.5"),
        (Annotated[list[int], Field(min_length=2)], [1], "must have 2 entries or more"),
        (HttpUrl, "example.com", "must be an address, such as https://example.com/hook"),
        (HttpUrl, "ftp://example.com", "must begin with https:// or http://"),
        (Literal["a", "b"], "c", "must be one of 'a' or 'b'"),
        (Literal["generated"], "c", "must be 'generated'"),
        (date, "yesterday", "must be a day, such as 2026-01-31"),
    ],
)
def test_words_name_what_is_wanted(kind: Any, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind).validate_python(value)
    assert [in_words(fault) for fault in error.value.errors()] == [words]


@pytest.mark.parametrize(
    ("student", "place"),
    [
        ({"architecture": "alexnet"}, "#/steps/0/student/architecture"),
        ({"architecture": "mlp", "width": -1}, "#/steps/0/student/width"),
        ({"architecture": "mlp", "model": "mdl_1"}, "#/steps/0/student/model"),
        ({"model": "alexnet"}, "#/steps/0/student/model"),
        ({"derive": {"width": 2}}, "#/steps/0/student/derive/width"),
        ({"width": 0.5}, "#/steps/0/student"),
        ("mlp", "#/steps/0/student"),
    ],
)
def test_a_wrong_student_has_one_fault(service: Service, student: object, place: str) -> None:
    body = {"model": service.model(), "steps": [{"method": "distill", "student": student}]}
    assert pointers(service.http.post("/v1/jobs/plan", json=body)) == [place]


def test_a_wrong_teacher_or_format_has_one_fault(service: Service) -> None:
    body = {"model": service.model(), "steps": [{"method": "distill", "teacher": "me"}]}
    answer = service.http.post("/v1/jobs/plan", json={**body, "deliver": ["onnx", "tflite"]})
    assert pointers(answer) == ["#/steps/0/teacher", "#/deliver/1"]
    assert "openvino" not in answer.text, "no worker here delivers it"


def test_a_parameter_is_called_by_its_name(service: Service) -> None:
    answer = service.http.get("/v1/jobs", params={"status": "lost"})
    assert pointers(answer) == ["#/query/status"]
    assert answer.json()["detail"].startswith("'status' must be one of 'queued', 'running'")
