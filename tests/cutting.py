"""A way to a service that breaks: a proxy that cuts its first connections in what is sent."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Cuts:
    """Where the proxy is, and after how many sent bytes the next connections are to break."""

    url: str
    left: list[int] = field(default_factory=list)
    open: list[socket.socket] = field(default_factory=list)

    def now(self) -> None:
        """Break all connections that there are at this moment."""
        while self.open:
            with suppress(OSError):
                self.open.pop().shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(url: str, seed: int = 0, count: int = 0, most: int = 2_000) -> Iterator[Cuts]:
    """Run the proxy before ``url``.

    Args:
        url: of the service.
        seed: of the places at which connections break.
        count: of connections that break.
        most: bytes that one of them passes on.
    """
    rng = random.Random(seed)
    left = [rng.randrange(1_000, most) for _ in range(count)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cuts = Cuts(f"http://127.0.0.1:{listener.getsockname()[1]}", left)
        accepting = threading.Thread(target=_accept, args=(listener, url, cuts))
        accepting.start()
        try:
            yield cuts
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, url: str, cuts: Cuts) -> None:
    connections = list[threading.Thread]()
    with suppress(OSError):
        while True:
            near, _ = listener.accept()
            cuts.open.append(near)
            most = cuts.left.pop(0) if cuts.left else None
            connections.append(threading.Thread(target=_connect, args=(near, url, most)))
            connections[-1].start()
    for connection in connections:
        connection.join()


def _connect(near: socket.socket, url: str, most: int | None) -> None:
    behind = urlsplit(url)
    with near, socket.create_connection((behind.hostname, behind.port)) as far:
        back = threading.Thread(target=_pass_on, args=(far, near, None))
        back.start()
        _pass_on(near, far, most)
        back.join()


def _pass_on(source: socket.socket, sink: socket.socket, most: int | None) -> None:
    passed = 0
    with suppress(OSError):
        while (most is None or passed < most) and (data := source.recv(16_384)):
            passed += len(data)
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
