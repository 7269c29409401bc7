"""A host of files on loopback, with the bad habits that a test asks for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Host:
    """Where it is, what it was asked for, and how each path is answered."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a byte now and then, until the test ends."""
        handler.send_response(200)
        handler.end_headers()
        while not self.closing.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()


def content(body: bytes, *, announced: int | None = None, **headers: str) -> Answer:
    """Answer with a file; ``announced`` bytes are promised."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def status(code: int, **headers: str) -> Answer:
    """Answer with a status alone."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Answer each request as the next one says, and then as the last one."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Send bytes until nobody reads them."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(65_536))


@contextmanager
def files() -> Iterator[Host]:
    """Run a host of files."""
    state = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            self.close_connection = True
            with suppress(OSError):
                state.answers.get(self.path.partition("?")[0], status(404))(self)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            """Say nothing: callers that give up are what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
