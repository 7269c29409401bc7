"""``/searches/new``: a job that searches for its steps; and points of its front as jobs."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app import nudge
from app.domain.generated import GENERATED
from app.domain.jobs import JobRequest
from app.domain.problems import Problem
from app.domain.request_parts import Budget, Objective
from app.services import jobs, searches
from app.web import problems
from app.web.dashboard import page
from app.web.dashboard.lists import datasets_of, models_of
from app.web.dashboard.visitor import Form, Looking, Visitor

router = APIRouter()

_OFFERED = 100
_CHOICES = {
    name: Objective.model_json_schema()["properties"][name]["enum"]
    for name in ("minimize", "strategy")
}
_BEGINNING = {
    "minimize": "latency",
    "strategy": "guided",
    "max_quality_drop": "0.01",
    "trials": str(Budget().trials),
    "minutes": f"{Budget().minutes:g}",
}

Given = Annotated[str, Query(max_length=64)]


@router.get("/searches/new")
def new_search(
    visitor: Looking,
    model: Given = "",
    dataset: Given = "",
    minimize: Given = "latency",
    max_quality_drop: Given = "",
) -> Response:
    """Show the form."""
    given = {"model": model, "dataset": dataset, "minimize": minimize}
    return _form(
        visitor, given | ({"max_quality_drop": max_quality_drop} if max_quality_drop else {})
    )


@router.post("/searches/new")
def take_search(visitor: Looking, form: Form) -> Response:
    """Submit a search, or show what is wrong with it."""
    sent = {name: str(value) for name, value in form.multi_items()}
    try:
        request = _request(sent)
        with visitor.call.transaction() as session:
            job = jobs.submit(session, visitor.tenant, request, visitor.gateway.settings).id
    except Problem as fault:
        return _form(visitor, sent, fault)
    nudge.send(visitor.gateway.settings, "search", job)
    return page.see(f"/jobs/{job}")


@router.post("/jobs/{job_id}/front/{point}/take")
def take_point(
    job_id: str,
    point: str,
    visitor: Looking,
    form: Form,  # noqa: ARG001 (it is checked)
) -> Response:
    """Make a point of a search a job of its own, and show that."""
    with visitor.call.transaction() as session:
        taken = searches.take(session, visitor.tenant, job_id, point)
    return page.see(f"/jobs/{taken.id}")


def _form(visitor: Visitor, given: dict[str, str], fault: Problem | None = None) -> Response:
    return page.show(
        "new_search.html",
        visitor,
        status=422 if fault else 200,
        given={**_BEGINNING, **given},
        choices=_CHOICES,
        models=models_of(visitor, limit=_OFFERED).items,
        datasets=datasets_of(visitor, limit=_OFFERED).items,
        faults=page.faults(fault) if fault else {},
        fault_of_all=fault.detail if fault else None,
    )


def _request(sent: dict[str, str]) -> JobRequest:
    """Return the request that a form asks for; what is left blank has its default.

    Raises:
        Invalid: It is not one, each fault at its place.
    """
    given = {name: text.strip() for name, text in sent.items() if text.strip()}
    body: dict[str, Any] = {
        name: given[name] for name in ("model", "dataset", "name") if name in given
    }
    if body.get("dataset") == GENERATED:
        body["data"] = body.pop("dataset")
    objective: dict[str, Any] = {
        name: given[name] for name in ("minimize", "strategy") if name in given
    }
    if "max_quality_drop" in given:
        objective["subject_to"] = {"max_quality_drop": _number(given["max_quality_drop"])}
    objective["budget"] = {
        name: _number(given[name]) for name in ("trials", "minutes") if name in given
    }
    body["objective"] = objective
    try:
        return JobRequest.model_validate_json(json.dumps(body))
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise problems.invalid(RequestValidationError(found, body=body)) from None


def _number(text: str) -> float | int | str:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text
