"""``planish devices``."""

from planish.cli.resources import commands, identifier

cli = commands(
    "device",
    identifier("device", "dev"),
    lambda client: client.devices,
    {
        "id": lambda device: device.id,
        "name": lambda device: device.name,
        "machine": lambda device: device.machine,
        "runtime": lambda device: device.runtime,
        "seen": lambda device: device.seen_at,
    },
    about="Boards that time results; 'planish agent' adds one.",
    shown="Show a device.",
    deleted="Forget a device; what it has measured stays.",
)
