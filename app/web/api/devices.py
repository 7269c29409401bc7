"""``/v1/devices``: boards and phones that time files, and the calls of their agents."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from app.domain.devices import (
    Claimed,
    DeviceRequest,
    Measurement,
    MeasurementReport,
    RegisteredDevice,
    Renewal,
    TenantDevice,
)
from app.domain.problems import Conflict, NotFound, RequestInFlight, TooManyRequests
from app.services import devices
from app.web.idempotency import Posted
from app.web.pagination import Page, Walked, page
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/devices", tags=["devices"])

DeviceToken = Annotated[
    str | None,
    Header(
        alias="Planish-Device-Token",
        max_length=200,
        description="What the device's registration gave, besides the API key.",
    ),
]


@router.post(
    "",
    status_code=201,
    response_model=RegisteredDevice,
    responses=documented(RequestInFlight, TooManyRequests),
)
def register_device(body: DeviceRequest, call: Caller, once: Posted) -> Response:
    """Register a device by its name, which jobs then have as `target`; its token is shown once.

    A device of the same name is the same one: its earlier agent may not call any more, and what
    that had claimed waits again.
    """
    settings = call.gateway.settings
    return once(201, lambda session: devices.register(session, call.tenant, body, settings))


@router.get("")
def list_devices(call: Caller, walk: Walked) -> Page[TenantDevice]:
    """List the devices, newest first."""
    with call.transaction() as session:
        return page(devices.listed(session, call.tenant, walk))


@router.get("/{device_id}", responses=documented(NotFound))
def get_device(device_id: str, call: Caller) -> TenantDevice:
    """Show a device."""
    with call.transaction() as session:
        return TenantDevice.model_validate(devices.find(session, call.tenant, device_id))


@router.delete("/{device_id}", status_code=204, responses=documented(NotFound))
def delete_device(device_id: str, call: Caller) -> None:
    """Forget a device; what it has measured stays with its jobs."""
    with call.transaction() as session:
        devices.delete(session, call.tenant, device_id)


@router.post(
    "/{device_id}/measurements/claim",
    response_model=Claimed,
    responses=documented(NotFound, RequestInFlight),
)
def claim_measurement(
    device_id: str, call: Caller, once: Posted, token: DeviceToken = None
) -> Response:
    """Claim what the device is to time next; its agent does so, again and again."""
    settings = call.gateway.settings
    return once(
        200,
        lambda session: devices.claim(session, call.tenant, device_id, token, settings),
        done=lambda claimed: claimed.task is not None,
    )


@router.post(
    "/{device_id}/measurements/{measurement_id}/renew",
    response_model=Measurement,
    responses=documented(NotFound, Conflict, RequestInFlight),
)
def renew_measurement(
    device_id: str,
    measurement_id: str,
    body: Renewal,
    call: Caller,
    once: Posted,
    token: DeviceToken = None,
) -> Response:
    """Say that the agent is still at work on a measurement that it has claimed."""
    settings = call.gateway.settings
    return once(
        200,
        lambda session: devices.renew(
            session, call.tenant, device_id, measurement_id, token, body, settings
        ),
    )


@router.post(
    "/{device_id}/measurements/{measurement_id}/report",
    response_model=Measurement,
    responses=documented(NotFound, Conflict, RequestInFlight),
)
def report_measurement(
    device_id: str,
    measurement_id: str,
    body: MeasurementReport,
    call: Caller,
    once: Posted,
    token: DeviceToken = None,
) -> Response:
    """Report what the device measured of a file that its agent has claimed."""
    return once(
        200,
        lambda session: devices.report(
            session, call.tenant, device_id, measurement_id, token, body
        ),
    )
