"""A whole service of one's own, for as long as it is needed: ``planish serve`` and its end."""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_CONFIGURING = ("_URL", "AUTH_REQUIRED", "PLANISH_")
"""What would make the private service another one."""


@contextmanager
def running(**variables: str) -> Iterator[str]:
    """Run a private service and hand out its URL; it and its data are gone afterwards.

    Args:
        variables: settings, as environment variables.

    Raises:
        app.local.server.DidNotStart: with the end of its log.
    """
    import httpx

    from app.local.server import Server

    url = f"http://127.0.0.1:{_free_port()}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    with TemporaryDirectory(prefix="planish-") as temporary:
        options = ["--data", f"{temporary}/data", "--port", url.rpartition(":")[2]]
        with Server(
            name="the service",
            argv=[sys.executable, "-m", "planish", "serve", *options],
            url=url,
            env=_environment(variables),
            directory=Path(temporary) / "service",
            answers=ready,
            patience_s=120,
        ):
            yield url


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not any(part in name for part in _CONFIGURING)
    }
    return {**inherited, **variables}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
