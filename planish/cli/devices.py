"""``planish devices``."""

from planish.cli.asking import said
from planish.cli.resources import commands, identifier

cli = commands(
    "device",
    identifier("device", "dev"),
    lambda client: client.devices,
    {
        "id": lambda device: device.id,
        "seen": lambda device: f"{device.seen_at:%Y-%m-%d %H:%M}",
    },
    lambda device: said(device.name, device.machine, device.runtime),
    about="Boards that time results; 'planish agent' adds one.",
    shown="Show a device.",
    deleted="Forget a device; what it has measured stays.",
)
