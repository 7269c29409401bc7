"""``/jobs/new``: a job from a wish or from steps, with the plan beside it."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from app.domain.deployments import DEPLOYMENTS
from app.domain.job_answers import SubmittedJob
from app.domain.jobs import MAX_STEPS, JobRequest
from app.domain.methods import Method, methods
from app.domain.percentages import share
from app.domain.problems import Problem
from app.domain.recommendations import Minimize
from app.services import jobs
from app.services.wishes import Wish
from app.web.dashboard import copies, draft, page, places
from app.web.dashboard.advised import Advised, advised
from app.web.dashboard.draft import Draft
from app.web.dashboard.goals import GOALS
from app.web.dashboard.lists import datasets_offered, filename, models_offered
from app.web.dashboard.offers import Offers, offers
from app.web.dashboard.planned import Planned, planned
from app.web.dashboard.sending import Sent
from app.web.dashboard.visitor import Form, Looking, Visitor
from app.web.idempotency import Once

router = APIRouter()


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
    step: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Show the form: empty, for a goal or a method, as advised, or like another job."""
    filled = Draft(model, dataset, max_quality_drop=max_quality_drop, minimize=minimize)
    if like:
        with visitor.call.transaction() as session:
            asked = jobs.asked(session, visitor.tenant, like)
        if asked.objective is not None:
            return page.see(f"/searches/new?like={like}")
        filled = draft.like(asked)
    if advice:
        chosen = [each for each in _advised(visitor, filled).items if each.id == advice]
        filled.steps = [
            draft.typed_step(step) for each in chosen for step in each.job.get("steps", [])
        ]
    for action, where in (("wish", goal), ("add", step)):
        _rearrange(filled, action, where)
    return _form(visitor, filled)


@router.post("/jobs/new")
def take_job(
    visitor: Looking, form: Form, once: Sent, hx_request: Annotated[str | None, Header()] = None
) -> Response:
    """Change the form as its buttons ask, plan it, or submit it.

    What htmx sends is a plan alone, whenever a field has changed. It names the button that was
    pressed last: who fills in a field and presses "Start the job" would start two.
    """
    sent = {name: str(value) for name, value in form.multi_items()}
    filled = draft.sent(sent)
    pressed = "plan" if hx_request else sent.get("do", "plan")
    action, _, where = pressed.partition(":")
    _rearrange(filled, action, where)
    if action != "submit":
        return _form(visitor, filled)
    try:
        return submitted(visitor, once, draft.checked(filled.body()))
    except Problem as fault:
        return _form(visitor, filled, fault)


def submitted(visitor: Visitor, once: Once, request: JobRequest) -> Response:
    """Submit a job once, and show it; the secret that was made for its webhook is shown first."""
    settings = visitor.gateway.settings
    answer = once(
        202,
        lambda session: jobs.submit(session, visitor.tenant, request, settings),
        tell=jobs.subject,
    )
    job = SubmittedJob.model_validate_json(bytes(answer.body))
    if job.webhook is not None and job.webhook.secret is not None:
        return page.show("submitted.html", visitor, job=job, secret=job.webhook.secret)
    return page.see(f"/jobs/{job.id}")


def _form(visitor: Visitor, filled: Draft, fault: Problem | None = None) -> Response:
    """Show what was filled in, what it would do, and what is wrong with it."""
    body = filled.body()
    begun = bool(filled.model) and (bool(filled.steps) or "deliver" in body)
    plan = planned(visitor, body, fault) if begun or fault else Planned()
    known = {method.method: method for method in methods()}
    models = models_offered(visitor, filled.named("model"))
    datasets = datasets_offered(visitor, filled.named("dataset"))
    offered = offers(visitor)
    return page.show(
        "new_job.html",
        visitor,
        status=422 if plan.fault else 200,
        draft=filled,
        advised=None if filled.steps else _advised(visitor, filled),
        goals=GOALS,
        offered=offered,
        label=_label(filled.target, offered),
        methods=methods(),
        steps=[_shown(step, known) for step in filled.steps],
        more=offered.fields(draft.MORE),
        models=models,
        datasets=datasets,
        **plan.shown([*models, *datasets]),
        most_steps=MAX_STEPS,
        copies=copies.of(
            visitor, body, filename(models, filled.model), filename(datasets, filled.dataset)
        )
        if plan.plan
        else {},
    )


def _label(chosen: str, offered: Offers) -> str:
    """Return the chosen target where it is none that is offered: a label of workers; else empty."""
    return "" if chosen in {*DEPLOYMENTS, *offered.devices} else chosen


def _advised(visitor: Visitor, filled: Draft) -> Advised:
    """Return advice for what was chosen so far."""
    drop = filled.max_quality_drop.strip()
    try:
        wish = Wish(
            minimize=filled.minimize,
            max_quality_drop=share(drop) if drop else None,
            data=filled.dataset or None,
        )
    except ValueError as error:
        return Advised(obstacle=f"{places.named('#/max_quality_drop')}: {error}.")
    return advised(visitor, filled.model, wish)


def _shown(step: Mapping[str, str], known: Mapping[str, Method]) -> dict[str, Any]:
    method = known[step["method"]]
    return {"method": method, "fields": draft.of_method(method.method).values(), "given": step}


def _rearrange(filled: Draft, action: str, where: str) -> None:
    """Add, move or remove a step, or take those of a wish."""
    steps = filled.steps
    for wish in GOALS:
        if action == "wish" and wish.name == where:
            filled.steps = [draft.typed_step(step) for step in wish.steps]
            filled.target = wish.target or filled.target
            if wish.max_quality_drop is not None:
                filled.max_quality_drop = f"{wish.max_quality_drop:g}"
    if action == "add":
        if len(steps) < MAX_STEPS and any(where == method.method for method in methods()):
            steps.append({"method": where})
        return
    place = next((index for index in range(len(steps)) if str(index) == where), None)
    if place is None:
        return
    if action == "remove":
        del steps[place]
    elif action in {"up", "down"}:
        other = place - 1 if action == "up" else place + 1
        if 0 <= other < len(steps):
            steps[place], steps[other] = steps[other], steps[place]
