"""Devices: registered, claimed for, reported by their agents. Functions work in a transaction."""

import hmac
import secrets
from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.domain.deployments import DEPLOYMENTS
from app.domain.devices import (
    Claimed,
    DeviceRequest,
    Measurement,
    MeasurementReport,
    RegisteredDevice,
    Renewal,
    Task,
    TenantDevice,
    TimedByTurns,
    TimedFile,
)
from app.domain.problems import (
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
)
from app.domain.targets import OUTPUT_FORMATS
from app.services import jobs
from app.services.keys import digest
from app.services.listing import Part, Walk, part
from app.settings import Settings
from app.store import blob_rows, devices, leases, lookup, measurements
from app.store.tables import DeviceRow, MeasurementRow, ModelRow

_PREFIX = "pld_"
_ROUNDING = 5e-5
"""Milliseconds: times are rounded to four decimals."""


def register(
    session: Session, tenant: str, asked: DeviceRequest, settings: Settings
) -> RegisteredDevice:
    """Register a device, or the new agent of one that is known by this name.

    Raises:
        Invalid: The name is that of a deployment target.
        TooManyRequests: The tenant has as many devices as it may.
    """
    if asked.name in {*DEPLOYMENTS, *OUTPUT_FORMATS}:
        fault = f"There is a target '{asked.name}' already: choose another name"
        raise Invalid(fault, errors=[FieldError(pointer="#/name", detail=fault)])
    count = devices.lock_all(session, tenant)
    if count >= settings.quota.devices and devices.named(session, tenant, asked.name) is None:
        raise TooManyRequests(
            f"You have {count} devices, which is the limit: delete one first.",
            headers={"Retry-After": "60"},
        )
    token = _PREFIX + secrets.token_urlsafe(32)
    row = devices.register(session, tenant, asked, digest(token))
    measurements.give_back(session, row)
    return RegisteredDevice(**TenantDevice.model_validate(row).model_dump(), token=token)


def find(session: Session, tenant: str, device_id: str) -> DeviceRow:
    """Return a device of the tenant, or raise NotFound."""
    return lookup.require(session, DeviceRow, tenant, device_id)


def delete(session: Session, tenant: str, device_id: str) -> None:
    """Delete a device; what it has measured stays with its jobs."""
    device = lookup.require(session, DeviceRow, tenant, device_id, "change")
    problem = "The device was deleted before it had measured the file."
    measurements.fail_all(session, device, problem)
    session.delete(device)


def claim(
    session: Session, tenant: str, device_id: str, token: str | None, settings: Settings
) -> Claimed:
    """Give a device's agent the next measurement.

    Raises:
        NotFound: The device is not the tenant's.
        Forbidden: The token is not that of the device's agent.
    """
    device = _agent(session, tenant, device_id, token)
    while (found := measurements.claim(session, device, settings.device)) is not None:
        row, artifact, job = found
        model = session.get(ModelRow, job.model_id)
        if model is None or model.onnx_sha256 is None or row.lease_expires_at is None:
            measurements.fail(row, "The model was deleted: there is nothing to compare with.")
            continue
        original = TimedFile(
            href=f"/v1/models/{model.id}/content?form=onnx",
            sha256=model.onnx_sha256,
            size_bytes=blob_rows.size_of(session, model.onnx_sha256),
        )
        candidate = TimedFile(
            href=f"/v1/artifacts/{artifact.id}/content",
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
        )
        task = Task.model_validate(
            {
                "id": row.id,
                "token": row.lease_token,
                "job": job.id,
                "format": row.format,
                "original": original,
                "candidate": candidate,
                "run": (job.evaluation or {})["run"],
                "expires_at": row.lease_expires_at,
            }
        )
        return Claimed(task=task)
    return Claimed(task=None)


def report(
    session: Session,
    tenant: str,
    device_id: str,
    measurement_id: str,
    token: str | None,
    body: MeasurementReport,
) -> Measurement:
    """Store what a device's agent has measured.

    Raises:
        NotFound: The device is not the tenant's, or the measurement not the device's.
        Forbidden: The token is not that of the device's agent.
        Conflict: The measurement was given out again, or has ended.
        Invalid: The figures are of another file, or do not go together.
    """
    device = _agent(session, tenant, device_id, token)
    row = _held(session, device, measurement_id, body.token)
    if body.sha256 != row.sha256:
        raise _fault("#/sha256", "is not that of the file that was to be timed")
    if body.latency is not None and not _consistent(body.latency):
        raise _fault("#/latency/speedup", "does not follow from the times beside it")
    measurements.keep(row, device, body)
    session.flush()
    session.refresh(row)
    return view(row)


def renew(
    session: Session,
    tenant: str,
    device_id: str,
    measurement_id: str,
    token: str | None,
    body: Renewal,
    settings: Settings,
) -> Measurement:
    """Give the holder of a measurement more time.

    Raises:
        NotFound, Forbidden, Conflict: as ``report``.
    """
    device = _agent(session, tenant, device_id, token)
    row = _held(session, device, measurement_id, body.token)
    seconds = settings.device.lease_seconds
    leases.renew(session, MeasurementRow, row.id, row.lease_token, seconds)
    return view(row)


def of_job(session: Session, job_id: str) -> list[Measurement]:
    """Return the measurements of a job."""
    return views(measurements.listed(session, job_id))


def listed(session: Session, tenant: str, walk: Walk) -> Part[TenantDevice]:
    """Return a part of the tenant's devices."""
    return part(
        session,
        walk,
        devices.of_tenant(tenant),
        DeviceRow,
        lambda rows: [TenantDevice.model_validate(row) for row in rows],
    )


def measured(session: Session, tenant: str, job_id: str, walk: Walk) -> Part[Measurement]:
    """Return a part of what devices measure of a job's files, or raise NotFound."""
    query = measurements.of_job(jobs.find(session, tenant, job_id).id)
    return part(session, walk, query, MeasurementRow, views)


def views(rows: Iterable[MeasurementRow]) -> list[Measurement]:
    """Return measurements as clients see them."""
    return [view(row) for row in rows]


def view(row: MeasurementRow) -> Measurement:
    """Return a measurement as clients see it."""
    conditions = row.conditions or {}
    return Measurement.model_validate(
        {
            "id": row.id,
            "job": row.job_id,
            "device": row.device,
            "artifact": row.artifact_id,
            "format": row.format,
            "sha256": row.sha256,
            "state": row.state,
            "latency": row.latency,
            **{name: conditions.get(name) for name in ("runtime", "machine", "threads")},
            "problem": row.problem,
            "created_at": row.created_at,
            "finished_at": row.finished_at,
        }
    )


def _agent(session: Session, tenant: str, device_id: str, token: str | None) -> DeviceRow:
    """Return the device whose agent calls, and note that it did."""
    device = lookup.require(session, DeviceRow, tenant, device_id, "change")
    if token is None or not hmac.compare_digest(digest(token), device.token_hash):
        raise Forbidden(
            "This needs the token that the device's registration gave. Another agent that has"
            " registered under the same name has a newer one: stop one of the two."
        )
    devices.note_seen(session, device)
    return device


def _held(session: Session, device: DeviceRow, measurement_id: str, token: int) -> MeasurementRow:
    """Lock and return the measurement that an agent holds with this token."""
    row = lookup.find(session, MeasurementRow, device.tenant, measurement_id, "change")
    if row is None or row.device_id != device.id:
        raise NotFound(f"The device {device.id!r} has no measurement {measurement_id!r}.")
    if row.state != "running" or row.lease_token != token:
        raise Conflict(f"The measurement is {row.state}, and not yours any more: claim the next.")
    return row


def _consistent(times: TimedByTurns) -> bool:
    """Return whether the median of ratios can be that of paired times with these quantiles.

    In more than half of the rounds neither time is beyond its outer tenth.
    """
    original, compressed = times.original, times.compressed
    highest = (original.p90 + _ROUNDING) / max(compressed.p10 - _ROUNDING, _ROUNDING)
    lowest = max(original.p10 - _ROUNDING, 0.0) / (compressed.p90 + _ROUNDING)
    return lowest - 1e-3 <= times.speedup <= highest + 1e-3


def _fault(pointer: str, what: str) -> Invalid:
    named = pointer.rpartition("/")[2]
    return Invalid(f"'{named}' {what}.", errors=[FieldError(pointer=pointer, detail=what)])
