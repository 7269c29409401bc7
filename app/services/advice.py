"""Advice before any job: what may suit a model, checked as a request is, with what is known of it.

Three sources, in this order: what finished jobs measured on this model or on those that are like
it; the plan of each proposal; what the model is made of. A request that the plan refuses is no
advice.
"""

from sqlalchemy.orm import Session

from app.domain.deployments import formats_of
from app.domain.generated import GENERATED
from app.domain.latencies import same_speed
from app.domain.makeup import makeup
from app.domain.models import ModelDescription, quantized_operators
from app.domain.percentages import percent
from app.domain.problems import Conflict, FieldError, Invalid
from app.domain.recommendations import Expected, Recommendation, Recommendations
from app.domain.sensitivity import Sensitivity
from app.domain.steps import Outlook
from app.services import models, plans, refusals, targets
from app.services.candidates import Candidate, candidates, helps, taken_over
from app.services.inputs import Inputs, look_up
from app.services.precedents import Experience, History, history
from app.services.proposals import Proposal, proposals
from app.services.situation import Situation
from app.services.wishes import Wish, about, body_of, request_of
from app.store import sensitivities

_MOST = 8
"""Recommendations."""

_SHOWN_JOBS = 10


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
    past = history(session, tenant, model_id, known, wish.data)
    offered = list[Proposal]()
    if not quantized_operators(known.operators):
        offered += proposals(_situation(session, known, inputs, wish))
        offered += taken_over(past, offered, wish.max_quality_drop)
    found = [each for each in candidates(offered, past, inputs, wish) if helps(each, wish)]
    found.sort(key=lambda each: each.rank(wish.max_quality_drop))
    items = [_recommendation(each, past, inputs, known, wish) for each in found[:_MOST]]
    if items and wish.data is not None:
        items.append(_search(inputs, wish))
    return Recommendations(items=items)


def _search(inputs: Inputs, wish: Wish) -> Recommendation:
    """Return the advice to let a search choose, which tries what stands before it and more."""
    body = about(inputs.model.id, wish)
    body["objective"] = {"minimize": wish.minimize}
    if wish.max_quality_drop is not None:
        body["objective"]["subject_to"] = {"max_quality_drop": wish.max_quality_drop}
    planned = plans.plan(request_of(body), inputs).estimate
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
    request = request_of(body_of(model_id, wish, [{"method": "quantize"}]))
    places = dict.fromkeys(("#/dataset", "#/data"), "#/query/data")
    places |= dict.fromkeys(("#/target", "#/deliver/0"), "#/query/target")
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
    wanted = formats_of(wish.target)[0] if wish.target else "onnx"
    offered = [each for each in targets.announced(session) if each.target == wanted]
    return Situation(
        makeup=makeup(known, inputs.model.size_bytes),
        outlook=Outlook.of(known, inputs.model.size_bytes, samples=0),
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


def _recommendation(
    candidate: Candidate, past: History, inputs: Inputs, known: ModelDescription, wish: Wish
) -> Recommendation:
    proposal, experience = candidate.proposal, candidate.experience
    told = [proposal.reason]
    if experience is not None:
        told.append(_spoken(experience))
    elif candidate.sized is not None:
        told.append(_spoken_of_size(candidate.sized))
    ruined = candidate.ruined
    warned = [proposal.caution, *([_warned(ruined)] if ruined and experience is None else [])]
    return Recommendation(
        id=proposal.id,
        title=proposal.title,
        reason=" ".join(told),
        job=candidate.body,
        estimate=_expected(candidate, past, inputs.model.size_bytes, known.macs),
        risk=candidate.risk(wish.max_quality_drop),
        caution=" ".join(warned),
    )


def _expected(candidate: Candidate, past: History, size_bytes: int, macs: int) -> Expected:
    """Return what a job is expected to come to: as measured, else as planned."""
    planned, seen = candidate.plan.estimate, candidate.experience
    sized = seen or candidate.sized
    if sized is None:
        return Expected(**planned.model_dump(), latency_ms=None)
    own = past.latency_ms
    faster = seen.faster if seen else None
    latency = None if own is None or faster is None else own / faster
    minutes = seen.minutes if seen and seen.of_this_model else None
    return Expected(
        size_bytes=round(size_bytes / sized.smaller),
        macs=round(macs / sized.lighter),
        latency_ms=latency,
        minutes=planned.minutes if minutes is None else minutes,
        measured=[
            "size_bytes",
            "macs",
            *(["latency_ms"] if latency is not None else []),
            *(["minutes"] if minutes is not None else []),
        ],
        jobs=[job.job for job in sized.jobs[:_SHOWN_JOBS]],
    )


def _spoken(seen: Experience) -> str:
    """Say what jobs of the same steps came to."""
    count = len(seen.jobs)
    what = "this model" if seen.of_this_model else "models of like shape"
    which = f"{count} finished jobs on {what}" if count > 1 else f"A job on {what}"
    parts = f"{_left(seen.smaller, 'size')} and {_left(seen.lighter, 'work')}"
    came = f"came to {parts}" if seen.faster is None else f"{_sped(seen.faster)}, with {parts}"
    median = " (medians)" if count > 1 else ""
    return f"{which} {came}{median}; {seen.quality}."


def _spoken_of_size(seen: Experience) -> str:
    """Say how large jobs of the same steps left the model with other data, which is as with any."""
    which = f"{len(seen.jobs)} finished jobs" if len(seen.jobs) > 1 else "A job"
    return f"{which} on this model with other data came to {_left(seen.smaller, 'size')}."


def _warned(ruined: int) -> str:
    """Say that such steps of another strength have ruined the model."""
    jobs = f"{ruined} jobs" if ruined > 1 else "A job"
    return f"{jobs} of the same method, with other figures, ruined this model."


def _sped(faster: float) -> str:
    """Say what jobs did to the speed."""
    if same_speed(faster):
        return "kept the speed"
    times = f"{faster:.2f} times faster" if faster > 1 else f"{1 / faster:.2f} times slower"
    return f"made it {times}"


def _left(times_less: float, what: str) -> str:
    """Say how much is left of something."""
    share = percent(1 / times_less)
    return f"the same {what}" if share == percent(1) else f"{share} of the {what}"
