"""``planish devices``."""

from typing import Annotated

import typer

from planish.cli.asking import AsJson, Columns, Limit, Url, asking, print_list, print_one, tell
from planish.types import Device

cli = typer.Typer(help="Boards that time results; 'planish agent' adds one.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The device's id: dev_…")]

_COLUMNS: Columns[Device] = {
    "id": lambda device: device.id,
    "name": lambda device: device.name,
    "machine": lambda device: device.machine,
    "runtime": lambda device: device.runtime,
    "seen": lambda device: device.seen_at,
}


@cli.command("list")
def show_all(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
    """List the devices, newest first."""
    with asking(url) as client:
        print_list(client.devices.list(), _COLUMNS, limit=limit, as_json=as_json)


@cli.command()
def get(device: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Show a device."""
    with asking(url) as client:
        print_one(client.devices.get(device), as_json=as_json)


@cli.command()
def delete(device: Id, url: Url = None) -> None:
    """Forget a device; what it has measured stays."""
    with asking(url) as client:
        client.devices.delete(device)
    tell(f"{device} is deleted.")
