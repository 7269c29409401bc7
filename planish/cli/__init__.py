"""The command ``planish``: a file a command group; what is heavy is imported when it is used."""

from planish.cli import ending


def main() -> None:
    """Run one command."""
    with ending.at_once():
        from planish.cli.commands import run
    run()
