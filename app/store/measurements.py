"""Measurements on devices: filed when a job ends, claimed by the device's agent, and reported.

A measurement is leased like a job: an agent that dies keeps nothing from being measured, and an
agent that comes too late cannot overwrite what another one has reported.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.deployments import DEPLOYMENTS
from app.domain.devices import MeasurementReport
from app.settings import Device as DeviceSettings
from app.store import devices, leases
from app.store.tables import ArtifactRow, DeviceRow, JobRow, MeasurementRow

_PENDING = MeasurementRow.state.in_(["queued", "running"])


def file(session: Session, job: JobRow) -> None:
    """Have the device that a job has as its target time the job's artifacts, if it is a device.

    A search has no measurements of its own: its trials have.
    """
    target = job.request.get("target")
    if target is None or target in DEPLOYMENTS or job.search is not None:
        return
    if (job.evaluation or {}).get("run") is None:
        return
    device = devices.named(session, job.tenant, target, keep=True)
    if device is None:
        return
    timed = select(MeasurementRow.artifact_id).where(MeasurementRow.job_id == job.id)
    files = session.scalars(
        select(ArtifactRow)
        .where(
            ArtifactRow.job_id == job.id,
            ArtifactRow.ran,
            ArtifactRow.format.in_(device.formats),
            ArtifactRow.id.not_in(timed.where(MeasurementRow.artifact_id.is_not(None))),
        )
        .order_by(ArtifactRow.created_at, ArtifactRow.id)
    ).all()
    names = sorted(ids.new("mea") for _ in files)  # rows of one moment are listed by their id
    for name, artifact in zip(names, files, strict=True):
        session.add(
            MeasurementRow(
                id=name,
                tenant=job.tenant,
                device_id=device.id,
                device=device.name,
                job_id=job.id,
                artifact_id=artifact.id,
                format=artifact.format,
                sha256=artifact.sha256,
            )
        )
    session.flush()


def claim(
    session: Session, device: DeviceRow, settings: DeviceSettings
) -> tuple[MeasurementRow, ArtifactRow, JobRow] | None:
    """Lease the oldest measurement that waits for a device; None where nothing waits."""
    while True:
        row = session.scalars(
            select(MeasurementRow)
            .where(
                MeasurementRow.device_id == device.id,
                _PENDING,
                or_(MeasurementRow.state == "queued", leases.is_expired(MeasurementRow)),
            )
            .order_by(MeasurementRow.created_at, MeasurementRow.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=MeasurementRow)
        ).one_or_none()
        if row is None:
            return None
        if row.attempts >= settings.attempts:
            fail(row, f"Its agent took it {row.attempts} times and never reported.")
            continue
        artifact = row.artifact_id and session.get(ArtifactRow, row.artifact_id)
        if not artifact:
            fail(row, "The file was deleted before it was measured.")
            continue
        leases.take(session, row, device.id, settings.lease_seconds)
        row.state = "running"
        session.flush()
        session.refresh(row)
        return row, artifact, session.get_one(JobRow, row.job_id)


def keep(row: MeasurementRow, device: DeviceRow, report: MeasurementReport) -> None:
    """Store what the holder of a measurement has reported."""
    if report.latency is None:
        fail(row, report.problem or "The agent gave no reason.")
        return
    leases.release(row)
    row.state, row.finished_at = "measured", func.clock_timestamp()
    row.latency = report.latency.model_dump(mode="json")
    row.conditions = {
        "runtime": device.runtime, "machine": device.machine, "threads": device.threads,
    }  # fmt: skip


def give_back(session: Session, device: DeviceRow) -> None:
    """Have what a device's agent has claimed wait for its next one."""
    claimed = (MeasurementRow.device_id == device.id) & (MeasurementRow.state == "running")
    waits = {"state": "queued", "lease_owner": None, "lease_expires_at": None}
    session.execute(update(MeasurementRow).where(claimed).values(**waits))


def fail_all(session: Session, device: DeviceRow, problem: str) -> None:
    """End what a device has not measured; what it has measured stays."""
    pending = (MeasurementRow.device_id == device.id) & _PENDING
    for row in session.scalars(select(MeasurementRow).where(pending).with_for_update()):
        fail(row, problem)


def fail(row: MeasurementRow, problem: str) -> None:
    """End a measurement without figures; its holder's report is refused from now on."""
    leases.release(row)
    row.state, row.problem, row.finished_at = "failed", problem, func.clock_timestamp()


def of_job(job_id: str) -> Select[MeasurementRow]:
    """Return the query of a job's measurements."""
    return select(MeasurementRow).where(MeasurementRow.job_id == job_id)


def listed(session: Session, job_id: str) -> Sequence[MeasurementRow]:
    """Return a job's measurements, in the order of its artifacts."""
    order = (MeasurementRow.created_at, MeasurementRow.id)
    return session.scalars(of_job(job_id).order_by(*order)).all()


def forget(session: Session, job_id: str) -> None:
    """Delete the measurements of files that a job replaces."""
    session.execute(delete(MeasurementRow).where(MeasurementRow.job_id == job_id))


def pending(session: Session, job_id: str) -> MeasurementRow | None:
    """Lock and return a measurement of a job that nobody has reported yet, if there is one."""
    return session.scalars(
        of_job(job_id).where(_PENDING).limit(1).with_for_update(of=MeasurementRow)
    ).first()


def overdue(session: Session, row: MeasurementRow, settings: DeviceSettings) -> str | None:
    """Return why a search waits no longer for a measurement; None while it does."""
    now = leases.now(session)
    waited = now - row.created_at
    if waited > timedelta(seconds=settings.wait_seconds):
        return f"it did not report within {settings.wait_seconds:g} seconds"
    device = session.get(DeviceRow, row.device_id) if row.device_id else None
    if device is None:
        return "it was deleted"
    held = row.lease_expires_at is not None and row.lease_expires_at > now
    silent = now - device.seen_at
    if not held and silent > timedelta(seconds=settings.silent_seconds):
        return f"its agent has been silent for {silent.total_seconds():.0f} seconds"
    return None


def adopt(session: Session, job: JobRow, source: JobRow, files: dict[str, str]) -> None:
    """Give a job what was measured of another job's artifacts; no device has to hear of it.

    Args:
        session: in which the job adopts them.
        job: that has artifacts with the same bytes.
        source: whose artifacts were measured.
        files: the id of each artifact of ``job``, by that of the one it was copied from.
    """
    measured = of_job(source.id).where(MeasurementRow.state == "measured")
    for row in session.scalars(measured):
        copied = {
            name: getattr(row, name)
            for name in (
                "tenant", "device", "format", "sha256", "state", "latency", "conditions",
                "created_at", "finished_at",
            )
        }  # fmt: skip
        artifact = files.get(row.artifact_id or "")
        session.add(
            MeasurementRow(id=ids.new("mea"), job_id=job.id, artifact_id=artifact, **copied)
        )
