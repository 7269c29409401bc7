"""``/v1/methods`` and ``/v1/targets``: what can be asked for here."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.domain.methods import Method, methods
from app.domain.targets import Target
from app.services import targets
from app.web.security import Caller

router = APIRouter(tags=["catalog"])


class Methods(BaseModel):
    """Every step that a request may name."""

    items: list[Method]


class TargetList(BaseModel):
    """Every output format and runtime of this deployment."""

    items: list[Target]
    deployments: list[targets.Offer]
    """What a job's ``target`` may be."""


@router.get("/methods")
def list_methods(call: Caller) -> Methods:  # noqa: ARG001 (a key is needed here too)
    """List the steps, each with the JSON Schema of its parameters and what data it needs."""
    return Methods(items=[*methods()])


@router.get("/targets")
def list_targets(call: Caller) -> TargetList:
    """List the output formats and runtimes that workers announced in the last minute."""
    with call.transaction() as session:
        return TargetList(
            items=targets.announced(session), deployments=targets.deployments(session)
        )
