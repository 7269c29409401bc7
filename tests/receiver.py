"""A real webhook receiver on loopback, with every bad habit that a test asks for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Call:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> Any:
        """Return the payload, or raise the library's WebhookVerificationError."""
        return Webhook(secret).verify(self.body, self.headers)


Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer at once."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@dataclass
class Receiver:
    """What came in, and how the next request is answered."""

    url: str = ""
    answer: Answer = field(default_factory=lambda: status(204))
    calls: list[Call] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    closing: threading.Event = field(default_factory=threading.Event)

    def hang(self, _: BaseHTTPRequestHandler) -> None:
        """Answer nothing until the test ends."""
        self.closing.wait(60)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a header byte now and then, for ever."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.closing.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()


@contextmanager
def receiver(wrap: Callable[[Any], Any] | None = None, *, port: int = 0) -> Iterator[Receiver]:
    """Run a receiver, on any free port for 0; ``wrap`` may put TLS around its socket."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.calls.append(Call(self.path, headers, body))
            state.arrived.release()
            try:
                state.answer(self)
            except OSError:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *args: object) -> None:
            """Say nothing: callers that give up are what is tested."""

    server = Server(("127.0.0.1", port), Handler)
    if wrap is not None:
        server.socket = wrap(server.socket)
    state.url = f"{'http' if wrap is None else 'https'}://localhost:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
