"""``/searches/new``: a job that searches for its steps; and points of its front as jobs."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from app.domain.generated import GENERATED
from app.domain.job_names import LESS
from app.domain.jobs import JobRequest
from app.domain.problems import Conflict, Problem
from app.domain.request_parts import Budget
from app.domain.searches import STRATEGIES
from app.services import jobs, searches
from app.web.dashboard import copies, draft, page
from app.web.dashboard.compose import submitted
from app.web.dashboard.forms import Field
from app.web.dashboard.lists import datasets_offered, filename, models_offered
from app.web.dashboard.offers import offers
from app.web.dashboard.planned import Planned, planned
from app.web.dashboard.sending import Sent, made_id
from app.web.dashboard.visitor import Form, Looking, Visitor

router = APIRouter()

_MORE = ("target", "require", *draft.MORE)
_CHOICES = {"minimize": LESS, "strategy": STRATEGIES}
_BEGINNING = {
    "minimize": "latency",
    "strategy": "guided",
    "max_quality_drop": "0.01",
    "trials": str(Budget().trials),
    "minutes": f"{Budget().minutes:g}",
    "at_once": "",
}

Given = Annotated[str, Query(max_length=64)]


@router.get("/searches/new")
def new_search(
    visitor: Looking,
    model: Given = "",
    dataset: Given = "",
    minimize: Given = "latency",
    max_quality_drop: Given = "",
    like: Given = "",
) -> Response:
    """Show the form: empty, or like another search."""
    if like:
        with visitor.call.transaction() as session:
            asked = jobs.asked(session, visitor.tenant, like)
        return _form(visitor, _BEGINNING | _like(asked))
    given = {"model": model, "dataset": dataset, "minimize": minimize}
    if max_quality_drop:
        given["max_quality_drop"] = max_quality_drop
    return _form(visitor, _BEGINNING | given)


@router.post("/searches/new")
def take_search(
    visitor: Looking, form: Form, once: Sent, hx_request: Annotated[str | None, Header()] = None
) -> Response:
    """Plan a search or submit it, or show what is wrong with it.

    What htmx sends is a plan alone, as with the form of a job.
    """
    sent = {name: str(value) for name, value in form.multi_items()}
    if hx_request or sent.get("do") == "plan":
        return _form(visitor, _BEGINNING | sent)
    try:
        return submitted(visitor, once, draft.checked(_body(sent)))
    except Problem as fault:
        return _form(visitor, _BEGINNING | sent, fault)


@router.post("/jobs/{job_id}/front/{point}/take")
def take_point(job_id: str, point: str, visitor: Looking, once: Sent) -> Response:
    """Make a point of a search a job of its own, and show that."""
    taken = once(200, lambda session: searches.take(session, visitor.tenant, job_id, point))
    return page.see(f"/jobs/{made_id(taken)}")


def _form(visitor: Visitor, given: Mapping[str, str], fault: Problem | None = None) -> Response:
    filled = draft.sent_more(given)
    chosen = draft.Draft(given.get("model", ""), given.get("dataset", ""), more=filled)
    models = models_offered(visitor, chosen.named("model"))
    datasets = datasets_offered(visitor, chosen.named("dataset"))
    plan = planned(visitor, _body(given), fault) if given.get("model") or fault else Planned()
    return page.show(
        "new_search.html",
        visitor,
        status=422 if plan.fault else 200,
        given=given,
        choices=_CHOICES,
        titles={name: field.title for name, (_, field) in _objective().items()},
        more=offers(visitor).fields(_MORE),
        filled=filled,
        models=models,
        datasets=datasets,
        said=_said(plan.request) if plan.request else [],
        copies=copies.of(
            visitor,
            _body(given),
            filename(models, chosen.model),
            filename(datasets, chosen.dataset),
        )
        if plan.plan
        else {},
        **plan.shown([*models, *datasets]),
    )


def _said(request: JobRequest) -> list[str]:
    """Return what a search does, in sentences."""
    objective = request.objective
    if objective is None:
        return []
    tried = "pipelines of steps are" if objective.budget.trials > 1 else "pipeline of steps is"
    best = (
        f"The result is the one with least {LESS[objective.minimize]} of those whose quality drops"
        f" by {request.bound:g} at most; the model as it is, where none has less."
    )
    first = f"{objective.budget.trials} {tried} tried at most, each as a job of its own."
    return [first, best]


def _like(request: JobRequest) -> dict[str, str]:
    """Return the form that asks for what another search was asked to do."""
    objective = request.objective
    if objective is None:
        raise Conflict("The job is no search: look at it, and choose 'Change and run again'.")
    drop = objective.subject_to.max_quality_drop
    more = draft.more_of(request, _MORE)
    return {
        "model": request.model,
        "dataset": request.samples or "",
        "name": request.name or "",
        "minimize": objective.minimize,
        "strategy": objective.strategy,
        "max_quality_drop": "" if drop is None else repr(drop),
        "trials": str(objective.budget.trials),
        "minutes": repr(objective.budget.minutes),
        "at_once": str(objective.budget.at_once),
        **{f"more.{name}": text for name, text in more.items()},
    }


def _body(sent: Mapping[str, str]) -> dict[str, Any]:
    """Return the request that a form asks for; what is left blank has its default."""
    given = {name: text.strip() for name, text in sent.items() if text.strip()}
    body: dict[str, Any] = {
        name: given[name] for name in ("model", "dataset", "name") if name in given
    }
    if body.get("dataset") == GENERATED:
        body["data"] = body.pop("dataset")
    objective = {path: given[name] for name, (path, _) in _objective().items() if name in given}
    body["objective"] = draft.values(draft.of_request(("objective",))["objective"].parts, objective)
    return body | draft.values(draft.of_request(_MORE), draft.sent_more(sent))


@lru_cache
def _objective() -> Mapping[str, tuple[str, Field]]:
    """Return the fields of an objective by their names, each with its path."""
    return dict(_leaves(draft.of_request(("objective",))["objective"].parts))


def _leaves(
    known: Mapping[str, Field], within: str = ""
) -> Iterator[tuple[str, tuple[str, Field]]]:
    for name, field in known.items():
        if field.parts:
            yield from _leaves(field.parts, f"{within}{name}.")
        else:
            yield name, (within + name, field)
