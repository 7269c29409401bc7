"""A real gateway in this process, on a port of its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from app.main import create_app
from app.settings import Settings
from app.web.protocol import Protocol

NEVER = 3600.0
"""How often, in seconds, a gateway of a test takes back work, which most tests want left alone."""


@contextmanager
def serving(settings: Settings, scan_seconds: float = NEVER) -> Iterator[str]:
    """Serve until the block ends; yield the URL."""
    lease = settings.lease.model_copy(update={"scan_seconds": scan_seconds})
    settings = settings.model_copy(update={"lease": lease})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            create_app(settings), http=Protocol, log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
