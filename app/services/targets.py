"""The output formats and targets that living workers can deliver."""

from sqlalchemy.orm import Session

from app.domain.deployments import DEPLOYMENTS, Deployment, lacking
from app.domain.jobs import JobRequest
from app.domain.problems import Invalid, NotAvailable, Problem
from app.domain.request_parts import MOST_LABELS
from app.domain.targets import Target
from app.domain.workers import Capabilities
from app.store import devices, workers


class Offer(Deployment):
    """A target of jobs, and whether it can be measured for here."""

    lacking: str | None
    """Why not, and what to do; null where it can."""


def worker_devices(session: Session) -> list[str]:
    """Return the device of each living worker that runs jobs."""
    return [worker.device for worker in workers.alive(session) if worker.queue == "jobs"]


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


def placed(session: Session, tenant: str, request: JobRequest) -> JobRequest:
    """Return a request whose worker must have the job's target, where that is one of workers.

    Workers announce the deployments that they serve as labels, beside those of their operator. A
    device of the tenant is no worker's: any worker may run the job, and the device times it.
    """
    name = request.target
    if name is None or devices.named(session, tenant, name) is not None:
        return request
    labels = [*request.requires.labels, name]
    requires = request.requires.model_copy(update={"labels": list(dict.fromkeys(labels))})
    return request.model_copy(update={"requires": requires})


def fault(session: Session, tenant: str, request: JobRequest) -> tuple[type[Problem], str] | None:
    """Return why nothing can be measured for a job's target, and the kind of problem that it is."""
    name = request.target
    if name is None:
        return None
    if len(request.requires.labels) > MOST_LABELS:
        return Invalid, f"A target is a label too: require {MOST_LABELS - 1} others at most."
    if name in DEPLOYMENTS:
        reason = lacking(name, announced(session))
        return None if reason is None else (NotAvailable, reason)
    device = devices.named(session, tenant, name)
    if device is None and not any(name in labels for _, labels in workers.offers(session)):
        return Invalid, (
            f"There is no target '{name}': it is none of {', '.join(DEPLOYMENTS)}, no device that"
            f" is registered ('planish agent --target {name}' does that), and no label of a worker."
        )
    if device is not None and not set(device.formats) & set(request.deliver):
        return Invalid, (
            f"The device '{name}' runs {', '.join(device.formats)} and none of the formats in"
            " 'deliver': add one."
        )
    return None


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
