"""The candidates of advice: proposals that a plan accepts, with what is known of their gain."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log2
from typing import Any, get_args

from app.domain.generated import GENERATED
from app.domain.plans import Plan
from app.domain.recommendations import Minimize, Risk
from app.services import plans
from app.services.inputs import Inputs
from app.services.precedents import Experience, History, Precedent, signature
from app.services.proposals import Proposal
from app.services.wishes import Wish, body_of, request_of

_LITTLE = 0.01
"""The loss that is allowed where no bound is named: that of the wishes."""

_TAKEN_OVER = 3
"""Pipelines of finished jobs that are proposed."""

_RISKS = get_args(Risk)

_WORTH = 0.03
"""Halvings below which nothing is gained."""


@dataclass(frozen=True)
class Candidate:
    """A proposal as a request, its plan, and what jobs of the same steps came to."""

    proposal: Proposal
    body: dict[str, Any]
    plan: Plan
    experience: Experience | None
    sized: Experience | None
    """The jobs of the same steps with other data that tell how large its result is."""
    ruined: int
    """How many jobs ruined the model by such steps of another strength."""
    gain: float
    """How many times what is to become less is halved: as measured, else as far as is known."""

    def rank(self, allowed: float | None) -> tuple[int, int, float]:
        """Return the place among candidates: the least is best.

        What finished jobs show to keep the quality stands first, what they show to lose more than
        is allowed last; the others by their risk, and by their gain where that is the same.
        """
        risk = _RISKS.index(self.risk(allowed))
        if self.experience is None:
            return 1, risk, -self.gain
        if _keeps(self.experience, allowed):
            return 0, 0, -self.gain
        return 2, risk, -self.gain

    def risk(self, allowed: float | None) -> Risk:
        """Return how much quality may be lost: as finished jobs measured it, else as is guessed.

        Jobs on other models, or on samples that are not real, show no more than that it can go
        well.
        """
        seen, guessed = self.experience, self.proposal.risk
        if seen is None:
            return "high" if self.ruined else guessed
        if not _keeps(seen, allowed):
            return "high"
        return "low" if seen.is_proof else min(guessed, "medium", key=_RISKS.index)


def _keeps(experience: Experience | None, allowed: float | None) -> bool:
    """Return whether jobs show that no more quality is lost than is allowed."""
    return experience is not None and experience.drop <= (_LITTLE if allowed is None else allowed)


def taken_over(
    past: History, offered: Iterable[Proposal], allowed: float | None
) -> Iterator[Proposal]:
    """Yield pipelines that nobody proposed and that finished jobs show to keep the quality."""
    seen = {
        signature(request_of({"model": "", "steps": each.steps}).steps or []) for each in offered
    }
    taken = 0
    for job in sorted(past.precedents, key=lambda job: -(job.faster or 1.0) * job.smaller):
        key = job.signature
        if taken == _TAKEN_OVER or key in seen or not _portable(job, past):
            continue
        seen.add(key)
        if not _keeps(past.signed(key), allowed):
            continue
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
            _caution(job, past),
        )


def _caution(job: Precedent, past: History) -> str:
    """Say how far the figures of a job hold."""
    if job.model != past.model:
        return "What suits a model of like shape need not suit this one."
    if job.judged_on is None:
        return "It was measured on this model with random inputs, which tell little of real data."
    if job.judged_on == GENERATED:
        return "It was measured on this model, with samples that were made from it."
    return "It was measured on this model, with the data of that job."


def _portable(job: Precedent, past: History) -> bool:
    """Return whether steps name nothing that another model, or later advice, may lack."""
    of_this = job.model == past.model
    named = any(getattr(step, "ignore", None) for step in job.steps)
    return not any(step.other_models for step in job.steps) and (of_this or not named)


def candidates(
    offered: Iterable[Proposal], past: History, inputs: Inputs, wish: Wish
) -> Iterator[Candidate]:
    """Yield the proposals that a plan accepts; none with a step that leaves all layers alone."""
    for proposal in offered:
        body = body_of(inputs.model.id, wish, proposal.steps)
        request = request_of(body)
        plan = plans.plan(request, inputs)
        if plan.ok and not plan.idle:
            steps = request.steps or []
            experience, sized = past.of(steps), past.size_of(steps)
            ruined = past.ruined_by(steps)
            gain = _gain(proposal, plan, experience, sized, inputs, wish.minimize)
            yield Candidate(proposal, body, plan, experience, sized, ruined, gain)


def _gain(
    proposal: Proposal,
    plan: Plan,
    experience: Experience | None,
    sized: Experience | None,
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
            seen = experience or sized
            return log2(seen.smaller if seen else model.size_bytes / max(expected, 1))
        case "macs":
            expected = plan.estimate.macs or macs
            return log2(experience.lighter if experience else max(macs, 1) / max(expected, 1))


def helps(candidate: Candidate, wish: Wish) -> bool:
    """Return whether a candidate gains what is asked for; for latency, the same speed is enough.

    Steps that finished jobs show to ruin the model help nobody.
    """
    if candidate.experience is not None and candidate.experience.ruined:
        return False
    return candidate.gain > _WORTH or (wish.minimize == "latency" and candidate.gain >= -_WORTH)
