"""What a request would do, or what is wrong with it, as forms show it beside their fields."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.jobs import JobRequest
from app.domain.plans import Plan
from app.domain.problems import Problem
from app.services import jobs
from app.services.doubts import ALL_STEPS
from app.web.dashboard import draft, places
from app.web.dashboard.labels import Upload
from app.web.dashboard.visitor import Visitor

_LEFT_ALONE = 50
"""Layers that are shown with the reason why a step leaves them alone."""


@dataclass(frozen=True)
class Planned:
    """A request with its plan, or with the problem for which there is none; empty before."""

    body: Mapping[str, Any] = field(default_factory=dict)
    request: JobRequest | None = None
    plan: Plan | None = None
    fault: Problem | None = None

    def shown(self, uploads: Iterable[Upload]) -> dict[str, Any]:
        """Return what the template of a plan shows.

        Args:
            uploads: those that the form offers; what is still inspected of them may change a plan.
        """
        wrong = self.fault.details().errors or [] if self.fault else []
        refused = self.plan.refused if self.plan else []
        doubts = self.plan.doubts if self.plan else []
        of_fields = [(each.pointer, each.reason) for each in doubts if each.pointer != ALL_STEPS]
        beside = [(each.pointer, each.detail) for each in wrong]
        beside += [(each.pointer, each.reason) for each in refused]
        if self.request is not None:
            beside += _lacking(self.request)
        named = _named(self.request) if self.request else set()
        return {
            "plan": self.plan,
            "awaiting": any(
                upload.status == "inspecting" and upload.id in named for upload in uploads
            ),
            "wrong": places.sentences(self.fault, self.body) if self.fault else [],
            "faults": places.faults(beside, self.body),
            "doubts": places.faults(of_fields, self.body),
            **self._sentences(),
            "body": json.dumps(self.body, indent=2),
        }

    def _sentences(self) -> dict[str, list[Any]]:
        """Return what a plan says, with the names that the form has; nothing without a plan."""
        if self.plan is None:
            return {}
        places_of = {doubt.reason: doubt.pointer for doubt in self.plan.doubts}

        def of_step(index: int, sentence: str) -> str:
            return places.spoken(sentence, self.body, f"#/steps/{index}")

        return {
            "refusals": [
                places.spoken(each.reason, self.body, each.pointer) for each in self.plan.refused
            ],
            "remarks": [of_step(each.index, each.text) for each in self.plan.remarks],
            "warnings": [
                places.spoken(each, self.body, places_of.get(each, "#"))
                for each in self.plan.warnings
            ],
            "left_alone": [
                (each.node, of_step(each.index, each.reason))
                for each in self.plan.skipped[:_LEFT_ALONE]
            ],
        }


def planned(visitor: Visitor, body: Mapping[str, Any], fault: Problem | None = None) -> Planned:
    """Return what a form asks for, with its plan.

    Args:
        visitor: who asks.
        body: the request.
        fault: why it was refused, where it was: then there is no plan.
    """
    try:
        request = draft.checked(body)
    except Problem as error:
        return Planned(body, fault=fault or error)
    if fault is not None:
        return Planned(body, request, fault=fault)
    try:
        with visitor.call.transaction() as session:
            plan = jobs.plan(session, visitor.tenant, request, visitor.gateway.settings)
    except Problem as error:
        return Planned(body, request, fault=error)
    return Planned(body, request, plan)


def _lacking(request: JobRequest) -> Iterator[tuple[str, str]]:
    """Yield what a step lacks that is chosen elsewhere in the form, at that place."""
    needy = [
        str(index + 1)
        for index, step in enumerate(request.steps or ())
        if step.needs.data != "none"
    ]
    if needy and request.samples is None:
        steps = f"step {needy[0]} needs" if len(needy) == 1 else f"steps {', '.join(needy)} need"
        yield "#/dataset", f"Choose data, or 'data': 'generated': {steps} samples."


def _named(request: JobRequest) -> set[str]:
    return {request.model, *request.datasets.values(), *request.other_models.values()}
