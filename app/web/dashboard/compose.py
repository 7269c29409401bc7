"""``/jobs/new``: a job from a wish or from steps, with the plan beside it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Query, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app import nudge
from app.domain.datasets import Dataset
from app.domain.deployments import DEPLOYMENTS
from app.domain.generated import GENERATED
from app.domain.jobs import MAX_STEPS, JobRequest
from app.domain.methods import Method, methods
from app.domain.models import Model
from app.domain.plans import Plan
from app.domain.problems import Problem
from app.domain.recommendations import Minimize
from app.services import devices, jobs
from app.services.listing import Walk
from app.services.wishes import Wish
from app.web import problems
from app.web.dashboard import copies, page
from app.web.dashboard.advised import Advised, advised
from app.web.dashboard.forms import Field, fields
from app.web.dashboard.goals import GOALS
from app.web.dashboard.lists import datasets_of, models_of
from app.web.dashboard.visitor import Form, Looking, Visitor

router = APIRouter()

_OFFERED = 100
_STEP = re.compile(r"steps\.(\d{1,2})\.([a-z_]{1,40})")


@dataclass
class Draft:
    """What a person has filled in so far: text, as it was typed."""

    model: str = ""
    dataset: str = ""
    """Its id; ``generated`` for samples that are made from the model."""
    name: str = ""
    max_quality_drop: str = ""
    target: str = ""
    """Where the model is to run: a deployment, a device, or a label of workers; empty: anywhere."""
    minimize: Minimize = "latency"
    """What advice is to make less of."""
    steps: list[dict[str, str]] = field(default_factory=list)
    """Of each step its ``method`` and the parameters that were filled in."""


@router.get("/jobs/new")
def new_job(
    visitor: Looking,
    model: Annotated[str, Query(max_length=64)] = "",
    dataset: Annotated[str, Query(max_length=64)] = "",
    goal: Annotated[str, Query(max_length=20)] = "",
    like: Annotated[str, Query(max_length=64)] = "",
    minimize: Minimize = "latency",
    max_quality_drop: Annotated[str, Query(max_length=20)] = "",
    advice: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Show the form: empty, for a goal, as advised, or like another job."""
    draft = Draft(model, dataset, max_quality_drop=max_quality_drop, minimize=minimize)
    if like:
        draft = _like(visitor, like)
    if advice:
        chosen = [each for each in _advised(visitor, draft).items if each.id == advice]
        draft.steps = [_typed(step) for each in chosen for step in each.job.get("steps", [])]
    for wish in GOALS:
        if wish.name == goal:
            draft.steps = [_typed(step) for step in wish.steps]
            limit = wish.max_quality_drop
            draft.max_quality_drop = "" if limit is None else f"{limit:g}"
            draft.target = wish.target or ""
    return _form(visitor, draft)


@router.post("/jobs/new")
def take_job(
    visitor: Looking, form: Form, hx_request: Annotated[str | None, Header()] = None
) -> Response:
    """Change the form as its buttons ask, plan it, or submit it.

    What htmx sends is a plan alone, whenever a field has changed. It names the button that was
    pressed last: who fills in a field and presses "Start the job" would start two.
    """
    sent = {name: str(value) for name, value in form.multi_items()}
    draft = _draft(sent)
    pressed = "plan" if hx_request else sent.get("do", "plan")
    action, _, where = pressed.partition(":")
    _rearrange(draft, action, where)
    if action != "submit":
        return _form(visitor, draft)
    try:
        job = _submit(visitor, _request(draft))
    except Problem as fault:
        return _form(visitor, draft, fault)
    nudge.send(visitor.gateway.settings, "job", job)
    return page.see(f"/jobs/{job}")


def _form(visitor: Visitor, draft: Draft, fault: Problem | None = None) -> Response:
    """Show what was filled in, what it would do, and what is wrong with it."""
    plan: Plan | None = None
    if draft.model and draft.steps and fault is None:
        try:
            with visitor.call.transaction() as session:
                plan = jobs.plan(session, visitor.tenant, _request(draft))
        except Problem as error:
            fault = error
    known = {method.method: method for method in methods()}
    body = _body(draft)
    models = models_of(visitor, limit=_OFFERED).items
    datasets = datasets_of(visitor, limit=_OFFERED).items
    return page.show(
        "new_job.html",
        visitor,
        status=422 if fault else 200,
        draft=draft,
        advised=None if draft.steps else _advised(visitor, draft),
        goals=GOALS,
        deployments=DEPLOYMENTS.values(),
        elsewhere=_elsewhere(visitor, draft.target),
        methods=list(known.values()),
        steps=[_shown(step, known) for step in draft.steps],
        models=models,
        datasets=datasets,
        plan=plan,
        plan_fault=fault.detail if fault else None,
        faults=_faults(fault, plan),
        body=json.dumps(body, indent=2),
        most_steps=MAX_STEPS,
        copies=copies.of(body, _filename(models, draft.model), _filename(datasets, draft.dataset)),
    )


def _elsewhere(visitor: Visitor, chosen: str) -> list[str]:
    """Return the targets beside deployments: the tenant's devices, and a label that was chosen."""
    with visitor.call.transaction() as session:
        found = devices.listed(session, visitor.tenant, Walk(_OFFERED)).items
    names = [device.name for device in found]
    label = [] if chosen in {"", *names, *DEPLOYMENTS} else [chosen]
    return [*names, *label]


def _advised(visitor: Visitor, draft: Draft) -> Advised:
    """Return advice for what was chosen so far."""
    drop = _number(draft.max_quality_drop) if draft.max_quality_drop.strip() else None
    return advised(
        visitor,
        draft.model,
        Wish(
            minimize=draft.minimize,
            max_quality_drop=drop if isinstance(drop, float) else None,
            data=draft.dataset or None,
        ),
    )


def _faults(fault: Problem | None, plan: Plan | None) -> Mapping[str, str]:
    """Return what is wrong at each place of the request."""
    if fault is not None:
        return page.faults(fault)
    return {refusal.pointer: refusal.reason for refusal in plan.refused} if plan else {}


def _shown(step: Mapping[str, str], known: Mapping[str, Method]) -> dict[str, Any]:
    method = known[step["method"]]
    return {"method": method, "fields": fields(method), "given": step}


def _draft(sent: Mapping[str, str]) -> Draft:
    """Return what a form holds; what it does not know is passed over."""
    known = {method.method for method in methods()}
    steps: dict[int, dict[str, str]] = {}
    for name, value in sent.items():
        match = _STEP.fullmatch(name)
        if match and int(match[1]) < MAX_STEPS:
            steps.setdefault(int(match[1]), {})[match[2]] = value
    return Draft(
        model=sent.get("model", ""),
        dataset=sent.get("dataset", ""),
        name=sent.get("name", ""),
        max_quality_drop=sent.get("max_quality_drop", ""),
        target=sent.get("target", ""),
        minimize=_minimize(sent.get("minimize")),
        steps=[step for _, step in sorted(steps.items()) if step.get("method") in known],
    )


def _minimize(sent: str | None) -> Minimize:
    return next((known for known in get_args(Minimize) if known == sent), "latency")


def _rearrange(draft: Draft, action: str, where: str) -> None:
    """Add, move or remove a step."""
    steps = draft.steps
    if action == "add" and len(steps) < MAX_STEPS:
        steps.append({"method": where})
        draft.steps = [step for step in steps if any(step["method"] == m.method for m in methods())]
        return
    place = int(where) if where.isdecimal() and int(where) < len(steps) else None
    if place is None:
        return
    if action == "remove":
        del steps[place]
    elif action in {"up", "down"}:
        other = place - 1 if action == "up" else place + 1
        if 0 <= other < len(steps):
            steps[place], steps[other] = steps[other], steps[place]


def _body(draft: Draft) -> dict[str, Any]:
    """Return the request that a form asks for; what is left blank is left out."""
    known: dict[str, dict[str, Field]] = {
        method.method: {each.name: each for each in fields(method)} for method in methods()
    }
    steps = []
    for step in draft.steps:
        about = known[step["method"]]
        given = {
            name: about[name].value(text)
            for name, text in step.items()
            if name in about and text.strip()
        }
        steps.append({"method": step["method"], **given})
    body: dict[str, Any] = {"model": draft.model}
    if draft.dataset == GENERATED:
        body["data"] = GENERATED
    elif draft.dataset:
        body["dataset"] = draft.dataset
    if draft.name.strip():
        body["name"] = draft.name.strip()
    body["steps"] = steps
    if draft.target:
        body["target"] = draft.target
    if draft.max_quality_drop.strip():
        body["require"] = {"max_quality_drop": _number(draft.max_quality_drop)}
    return body


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _request(draft: Draft) -> JobRequest:
    """Return the request.

    Raises:
        Invalid: It is not one, each fault at its place.
    """
    body = _body(draft)
    try:
        return JobRequest.model_validate_json(json.dumps(body))
    except ValidationError as error:
        found = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise problems.invalid(RequestValidationError(found, body=body)) from None


def _submit(visitor: Visitor, request: JobRequest) -> str:
    with visitor.call.transaction() as session:
        return jobs.submit(session, visitor.tenant, request, visitor.gateway.settings).id


def _like(visitor: Visitor, job_id: str) -> Draft:
    """Return the form that asks for what another job did."""
    with visitor.call.transaction() as session:
        job = jobs.show(session, visitor.tenant, job_id)
    limit = job.require.max_quality_drop
    return Draft(
        model=job.model,
        dataset=job.dataset or job.data or "",
        name=job.name or "",
        max_quality_drop="" if limit is None else f"{limit:g}",
        target=job.target or "",
        steps=[
            _typed({"method": step.method, **step.model_dump(mode="json", exclude_defaults=True)})
            for step in job.steps or []
        ],
    )


def _typed(step: Mapping[str, Any]) -> dict[str, str]:
    """Return a step as a person would have typed it."""
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in step.items()
    }


def _filename(uploads: Sequence[Model] | Sequence[Dataset], chosen: str) -> str | None:
    """Return the name of the file that was uploaded as the chosen one."""
    return next((upload.filename for upload in uploads if upload.id == chosen), None)
