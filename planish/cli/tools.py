"""``planish tools``: converters and runtimes that are installed apart."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planish.cli.consoles import console
from planish.cli.deployment import Stop, load_settings

if TYPE_CHECKING:
    from app.domain.targets import ToolName

cli = typer.Typer(help="Install what makes more formats.", no_args_is_help=True)


@cli.command("list")
def list_tools() -> None:
    """Say which tools there are, and which are installed where workers look for them."""
    from app.domain.targets import TOOL_OF
    from workers.tools import environments

    there = environments.installed(_directory())
    for name, tool in TOOL_OF.items():
        runtime, version = environments.runtime_of(name)
        state = "installed" if tool in there else f"planish tools install {tool}"
        console().print(f"{name}: {runtime} {version}: {state}")


@cli.command()
def install(
    names: Annotated[list[str], typer.Argument(help="Such as litert, executorch, web.")],
) -> None:
    """Make the environment of each tool, with the versions that this release was tested with.

    A converter takes a minute or two and one to two gigabytes. Start the workers again afterwards.
    """
    from workers.tools import environments

    for tool in [_tool(name) for name in names]:
        try:
            environments.install(_directory(), tool, console().print)
        except environments.NotInstalled as error:
            raise Stop(f"{tool} could not be installed: {error}") from None


def _tool(name: str) -> "ToolName":
    from app.domain.targets import TOOL_NAMES

    for tool in TOOL_NAMES:
        if tool == name:
            return tool
    raise Stop(f"there is no tool {name!r}; there are: {', '.join(TOOL_NAMES)}")


def _directory() -> Path:
    from workers.tools import environments

    return environments.base(load_settings().worker.tools)
