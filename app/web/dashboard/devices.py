"""``/devices``: the boards that time results."""

from fastapi import APIRouter, Response

from app.services import devices
from app.services.listing import Walk
from app.web.dashboard import page
from app.web.dashboard.sending import Sent, change
from app.web.dashboard.visitor import Looking

router = APIRouter()

_SHOWN = 200


@router.get("/devices")
def list_devices(visitor: Looking) -> Response:
    """Show the devices, and how one is added."""
    with visitor.call.transaction() as session:
        found = devices.listed(session, visitor.tenant, Walk(_SHOWN)).items
    return page.show("devices.html", visitor, found=found)


@router.post("/devices/{device_id}/delete")
def delete_device(device_id: str, once: Sent) -> Response:
    """Forget a device; what it has measured stays."""
    change(once, devices.delete, device_id)
    return page.see("/devices")
