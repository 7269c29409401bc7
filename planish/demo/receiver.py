"""A receiver of signed webhooks, as a user would write one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LONGEST_BODY = 64 * 1024


@dataclass
class Receiver:
    """Listens on loopback; set ``secret`` before the first message is due."""

    url: str = ""
    secret: str = ""
    _arrived: threading.Event = field(default_factory=threading.Event)
    _message: dict[str, Any] = field(default_factory=dict)
    _fault: str = ""

    def wait(self, seconds: float) -> dict[str, Any]:
        """Return the first message with a good signature.

        Raises:
            TimeoutError: there was none in time.
        """
        if not self._arrived.wait(seconds):
            raise TimeoutError(f"no signed webhook came in {seconds:g} s {self._fault}")
        return self._message

    def take(self, body: bytes, headers: dict[str, str]) -> bool:
        """Verify a message and keep it; say whether its signature is good."""
        from standardwebhooks import Webhook, WebhookVerificationError

        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError as error:
            self._fault = f"({error})"
            return False
        self._message = json.loads(body)
        self._arrived.set()
        return True


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free port of loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = min(int(self.headers.get("Content-Length", 0)), _LONGEST_BODY)
            good = receiver.take(self.rfile.read(size), dict(self.headers.items()))
            self.send_response(204 if good else 401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()
