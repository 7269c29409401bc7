"""``/devices``: the boards that time results."""

from fastapi import APIRouter, Response

from app.domain.devices import TenantDevice
from app.services import devices
from app.store import devices as device_rows
from app.store.listing import page as rows_of
from app.store.tables import DeviceRow
from app.web.dashboard import page
from app.web.dashboard.visitor import Form, Looking

router = APIRouter()

_SHOWN = 200


@router.get("/devices")
def list_devices(visitor: Looking) -> Response:
    """Show the devices, and how one is added."""
    with visitor.call.transaction() as session:
        query = device_rows.of_tenant(visitor.tenant)
        rows, _ = rows_of(session, query, DeviceRow, None, _SHOWN)
        found = [TenantDevice.model_validate(row) for row in rows]
    return page.show("devices.html", visitor, found=found)


@router.post("/devices/{device_id}/delete")
def delete_device(device_id: str, visitor: Looking, form: Form) -> Response:  # noqa: ARG001
    """Forget a device; what it has measured stays."""
    with visitor.call.transaction() as session:
        devices.delete(session, visitor.tenant, device_id)
    return page.see("/devices")
