"""Advice before any job: what may suit a model, checked as a request is, with what is known of it.

Three sources, in this order: what finished jobs measured on this model or on those that are like
it; the plan of each proposal; what the model is made of. A request that the plan refuses is no
advice.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log2
from typing import Any

from sqlalchemy.orm import Session

from app.domain.deployments import DEPLOYMENTS, DeploymentName
from app.domain.generated import GENERATED
from app.domain.jobs import JobRequest
from app.domain.makeup import makeup, percent
from app.domain.models import ModelDescription, quantized_operators
from app.domain.plans import Plan
from app.domain.problems import Conflict, FieldError, Invalid
from app.domain.recommendations import Expected, Minimize, Recommendation, Recommendations, Risk
from app.domain.sensitivity import Sensitivity
from app.services import models, plans, refusals, targets
from app.services.inputs import Inputs, look_up
from app.services.precedents import Experience, History, Precedent, history, signature
from app.services.proposals import Proposal, proposals
from app.services.situation import Situation
from app.store import sensitivities

_MOST = 8
"""Recommendations."""

_SHOWN_JOBS = 10

_TRUST: dict[Risk, float] = {"low": 1.0, "medium": 0.85, "high": 0.5}
"""The share of a gain that counts where nothing was measured; its square where quality is bound."""

_MISSED = 4.0
"""By how many halvings steps are put behind that lost more than is allowed, here or on a like
model."""

_TAKEN_OVER = 3
"""Pipelines of finished jobs that are proposed."""

_WORTH = 0.03
"""Halvings below which nothing is gained."""


@dataclass(frozen=True)
class Wish:
    """What somebody asks advice for."""

    minimize: Minimize = "latency"
    max_quality_drop: float | None = None
    target: DeploymentName | None = None
    data: str | None = None
    """The id of a dataset; ``generated`` for samples that are made from the model."""


@dataclass(frozen=True)
class _Candidate:
    """A proposal as a request, its plan, and what jobs of the same steps came to."""

    proposal: Proposal
    body: dict[str, Any]
    plan: Plan
    experience: Experience | None
    gain: float
    """How many times what is to become less is halved: as measured, else as far as is known."""

    def worth(self, allowed: float | None) -> float:
        """Return the figure by which candidates are ranked: larger is better."""
        measured = self.experience
        if measured is None:
            return self.gain * _TRUST[self.proposal.risk] ** (1 if allowed is None else 2)
        return self.gain - (_MISSED if allowed is not None and measured.drop > allowed else 0.0)


def recommend(session: Session, tenant: str, model_id: str, wish: Wish) -> Recommendations:
    """Return jobs that may suit a model, the best first; each is accepted as it is.

    Raises:
        NotFound: the model is not the tenant's.
        Conflict: it is not inspected yet, or was rejected.
        Invalid: the dataset is not the tenant's, was rejected, or does not fit the model.
        NotAvailable: this deployment cannot measure for the target.
    """
    known = models.described(models.find(session, tenant, model_id))
    if known is None:
        raise Conflict("Advice needs a model that is ready: see its 'status'.")
    inputs = _inputs(session, tenant, model_id, wish)
    past = history(session, tenant, model_id, known)
    offered = list[Proposal]()
    if not quantized_operators(known.operators):
        offered += proposals(_situation(session, known, inputs, wish))
        offered += _taken_over(past, offered)
    found = [each for each in _candidates(offered, past, inputs, wish) if _helps(each, wish)]
    found.sort(key=lambda each: -each.worth(wish.max_quality_drop))
    items = [_recommendation(each, past, inputs, known) for each in found[:_MOST]]
    if items and wish.data is not None:
        items.append(_search(inputs, wish))
    return Recommendations(items=items)


def _search(inputs: Inputs, wish: Wish) -> Recommendation:
    """Return the advice to let a search choose, which tries what stands before it and more."""
    body = _about(inputs.model.id, wish)
    body["objective"] = {"minimize": wish.minimize}
    if wish.max_quality_drop is not None:
        body["objective"]["subject_to"] = {"max_quality_drop": wish.max_quality_drop}
    planned = plans.plan(_request(body), inputs).estimate
    return Recommendation(
        id="search",
        title="Search for the steps",
        reason="Trials measure what is only expected here: a search tries pipelines over all"
        " methods, and ends with the best one and the front of what it found.",
        job=body,
        estimate=Expected(**planned.model_dump(), latency_ms=None),
        risk="low",
        caution="It takes longer than single jobs. Where nothing is better, the original is the"
        " result.",
    )


def _inputs(session: Session, tenant: str, model_id: str, wish: Wish) -> Inputs:
    """Look up what every request of the advice names.

    Raises:
        Invalid: the dataset is not the tenant's, or of no use for the model.
        NotAvailable: this deployment cannot measure for the target.
    """
    request = _request(_body(model_id, wish, [{"method": "quantize"}]))
    places = dict.fromkeys(("#/dataset", "#/data"), "#/query/data")
    places["#/target"] = "#/query/target"
    try:
        inputs = look_up(session, tenant, request)
    except Invalid as fault:
        raise Invalid(
            str(fault),
            errors=[
                FieldError(pointer=places.get(error.pointer, error.pointer), detail=error.detail)
                for error in fault.details().errors or []
            ],
        ) from None
    for refused in refusals.faults(request, inputs):
        if refused.pointer in places:
            error = FieldError(pointer=places[refused.pointer], detail=refused.reason)
            raise refused.kind(refused.reason, errors=[error])
    return inputs


def _situation(session: Session, known: ModelDescription, inputs: Inputs, wish: Wish) -> Situation:
    wanted = DEPLOYMENTS[wish.target].formats[0] if wish.target else "onnx"
    offered = [each for each in targets.announced(session) if each.target == wanted]
    return Situation(
        makeup=makeup(known, inputs.model.size_bytes),
        minimize=wish.minimize,
        max_quality_drop=wish.max_quality_drop,
        data=inputs.dataset.description if inputs.dataset else None,
        has_data=wish.data is not None,
        generated=wish.data == GENERATED,
        chart=_chart(session, inputs.model.id, wish),
        trainable=known.trainable is not False,
        accelerates=frozenset(fast for target in offered for fast in target.accelerates)
        if offered
        else None,
    )


def _chart(session: Session, model_id: str, wish: Wish) -> Sensitivity | None:
    """Return the model's chart on the data of a wish, else the latest; None before the first."""
    row = sensitivities.latest(session, model_id, wish.data) or sensitivities.latest(
        session, model_id
    )
    return None if row is None else Sensitivity.model_validate(row.chart)


def _taken_over(past: History, offered: Iterable[Proposal]) -> Iterator[Proposal]:
    """Yield pipelines that nobody proposed and that finished jobs show to be of use."""
    seen = {signature(_request({"model": "", "steps": each.steps}).steps or []) for each in offered}
    taken = 0
    for job in sorted(past.precedents, key=lambda job: -(job.faster or 1.0) * job.smaller):
        key = job.signature
        if taken == _TAKEN_OVER or key in seen or not _portable(job, past):
            continue
        seen.add(key)
        taken += 1
        yield Proposal(
            f"as-{job.job}",
            f"As in job '{job.name or job.job}'",
            [
                {"method": step.method, **step.model_dump(mode="json", exclude_defaults=True)}
                for step in job.steps
            ],
            "These are the steps of a job that ended here.",
            "medium",
            "What suits a model of like shape need not suit this one."
            if job.model != past.model
            else "It was measured on this model, with the data of that job.",
        )


def _portable(job: Precedent, past: History) -> bool:
    """Return whether steps name nothing that another model, or later advice, may lack."""
    of_this = job.model == past.model
    named = any(getattr(step, "ignore", None) for step in job.steps)
    return not any(step.other_models for step in job.steps) and (of_this or not named)


def _candidates(
    offered: Iterable[Proposal], past: History, inputs: Inputs, wish: Wish
) -> Iterator[_Candidate]:
    """Yield the proposals that a plan accepts."""
    for proposal in offered:
        body = _body(inputs.model.id, wish, proposal.steps)
        request = _request(body)
        plan = plans.plan(request, inputs)
        if plan.ok:
            experience = past.of(request.steps or [])
            gain = _gain(proposal, plan, experience, inputs, wish.minimize)
            yield _Candidate(proposal, body, plan, experience, gain)


def _gain(
    proposal: Proposal,
    plan: Plan,
    experience: Experience | None,
    inputs: Inputs,
    minimize: Minimize,
) -> float:
    """Return how many times what is to become less is halved."""
    model = inputs.model
    macs = model.description.macs if model.description else 0
    match minimize:
        case "latency":
            faster = experience.faster if experience else None
            return proposal.gain if faster is None else log2(faster)
        case "size":
            expected = plan.estimate.size_bytes or model.size_bytes
            return log2(experience.smaller if experience else model.size_bytes / max(expected, 1))
        case "macs":
            expected = plan.estimate.macs or macs
            return log2(experience.lighter if experience else max(macs, 1) / max(expected, 1))


def _helps(candidate: _Candidate, wish: Wish) -> bool:
    """Return whether a candidate gains what is asked for; for latency, the same speed is enough."""
    return candidate.gain > _WORTH or (wish.minimize == "latency" and candidate.gain >= -_WORTH)


def _recommendation(
    candidate: _Candidate, past: History, inputs: Inputs, known: ModelDescription
) -> Recommendation:
    proposal, experience = candidate.proposal, candidate.experience
    told = [proposal.reason, *([_spoken(experience)] if experience else [])]
    return Recommendation(
        id=proposal.id,
        title=proposal.title,
        reason=" ".join(told),
        job=candidate.body,
        estimate=_expected(candidate, past, inputs.model.size_bytes, known.macs),
        risk=proposal.risk,
        caution=proposal.caution,
    )


def _expected(candidate: _Candidate, past: History, size_bytes: int, macs: int) -> Expected:
    """Return what a job is expected to come to: as measured, else as planned."""
    planned, seen = candidate.plan.estimate, candidate.experience
    if seen is None:
        return Expected(**planned.model_dump(), latency_ms=None)
    own = past.latency_ms
    latency = None if own is None or seen.faster is None else own / seen.faster
    return Expected(
        size_bytes=round(size_bytes / seen.smaller),
        macs=round(macs / seen.lighter),
        latency_ms=latency,
        minutes=seen.minutes if seen.of_this_model else planned.minutes,
        measured=[
            "size_bytes",
            "macs",
            *(["latency_ms"] if latency is not None else []),
            *(["minutes"] if seen.of_this_model else []),
        ],
        jobs=[job.job for job in seen.jobs[:_SHOWN_JOBS]],
    )


def _spoken(seen: Experience) -> str:
    """Say what jobs of the same steps came to."""
    count = len(seen.jobs)
    what = "this model" if seen.of_this_model else "models of like shape"
    which = f"{count} finished jobs on {what} came" if count > 1 else f"A job on {what} came"
    speed = "" if seen.faster is None else f"{seen.faster:.2f} times the speed, "
    size, work = percent(1 / seen.smaller), percent(1 / seen.lighter)
    parts = f"{speed}{size} of the size and {work} of the work"
    lost = seen.drop
    quality = "no quality was lost" if lost <= 0 else f"quality fell by {seen.spoken_drop}"
    median = " (medians)" if count > 1 else ""
    return f"{which} to {parts}{median}; {quality}."


def _body(model_id: str, wish: Wish, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of a request of steps; what is not wished is left out."""
    body = _about(model_id, wish) | {"steps": steps}
    if wish.max_quality_drop is not None:
        body["require"] = {"max_quality_drop": wish.max_quality_drop}
    return body


def _about(model_id: str, wish: Wish) -> dict[str, Any]:
    """Return what every request names: the model, the data, the target."""
    body: dict[str, Any] = {"model": model_id}
    if wish.data is not None:
        body["data" if wish.data == GENERATED else "dataset"] = wish.data
    if wish.target is not None:
        body["target"] = wish.target
    return body


def _request(body: dict[str, Any]) -> JobRequest:
    return JobRequest.model_validate_json(json.dumps(body))
