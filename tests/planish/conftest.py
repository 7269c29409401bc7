"""The command line, run in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from planish import cli

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in this process; return its exit code."""
    for variable in ("PLANISH_URL", "PLANISH_KEY", "PLANISH_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def running(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["planish", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return running
