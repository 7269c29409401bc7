"""What the workers that were seen lately can deliver."""

from sqlalchemy.orm import Session

from app.domain.targets import Target
from app.domain.workers import Capabilities
from app.store import workers


def announced(session: Session) -> list[Target]:
    """Merge what workers announced: a runtime once, with the devices of all of them."""
    merged: dict[tuple[str, str, str], Target] = {}
    for row in workers.alive(session):
        offered = Capabilities.model_validate(row.capabilities).targets if row.capabilities else []
        for target in offered:
            key = (target.target, target.runtime, target.version)
            merged[key] = _both(merged[key], target) if key in merged else target
    return list(merged.values())


def deliverable(session: Session) -> frozenset[str]:
    """Return the output formats that can be asked for; ONNX alone until a worker says more."""
    return frozenset(target.target for target in announced(session)) or frozenset({"onnx"})


def _both(one: Target, other: Target) -> Target:
    devices = {device.model_dump_json(): device for device in (*one.devices, *other.devices)}
    return one.model_copy(
        update={
            "devices": list(devices.values()),
            "accelerates": sorted({*one.accelerates, *other.accelerates}),
        }
    )
