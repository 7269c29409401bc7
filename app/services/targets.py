"""The output formats and targets that living workers can deliver."""

from sqlalchemy.orm import Session

from app.domain.deployments import DEPLOYMENTS, Deployment, DeploymentName, lacking
from app.domain.targets import Target
from app.domain.workers import Capabilities
from app.store import workers


class Offer(Deployment):
    """A target of jobs, and whether it can be measured for here."""

    lacking: str | None
    """Why not, and what to do; null where it can."""


def announced(session: Session) -> list[Target]:
    """Merge the announcements of workers: each runtime once, with the devices of all workers."""
    merged: dict[tuple[str, str, str], Target] = {}
    for row in workers.alive(session):
        offered = Capabilities.model_validate(row.capabilities).targets if row.capabilities else []
        for target in offered:
            key = (target.target, target.runtime, target.version)
            merged[key] = _merged(merged[key], target) if key in merged else target
    return list(merged.values())


def deployments(session: Session) -> list[Offer]:
    """Return the possible targets of jobs, and what this deployment lacks for each."""
    offered = announced(session)
    return [
        Offer(**dict(deployment), lacking=lacking(deployment.target, offered))
        for deployment in DEPLOYMENTS.values()
    ]


def shortcoming(session: Session, name: DeploymentName | None) -> str | None:
    """Return why this deployment cannot measure for a job's target; None where it can."""
    return None if name is None else lacking(name, announced(session))


def deliverable(session: Session) -> frozenset[str]:
    """Return the available output formats; only ONNX until a worker announces more."""
    return frozenset(target.target for target in announced(session)) or frozenset({"onnx"})


def _merged(first: Target, second: Target) -> Target:
    devices = {device.model_dump_json(): device for device in (*first.devices, *second.devices)}
    return first.model_copy(
        update={
            "devices": list(devices.values()),
            "accelerates": sorted({*first.accelerates, *second.accelerates}),
        }
    )
