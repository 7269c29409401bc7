"""A network between a service and a store of its: a proxy that delays, cuts and refuses."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_CHUNK = 64 * 1024


class Network:
    """What may happen to the connections of one proxy.

    Args:
        connect: Connects to the store.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.delay_seconds = 0.0
        """How long everything is held back that is sent either way."""
        self.is_cut = False
        """Whether nothing passes: open connections stay open and silent, as when a cable is cut."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @contextmanager
    def running(self) -> Iterator["Network"]:
        """Accept connections meanwhile."""
        accepting = threading.Thread(target=self._accept, name="network")
        accepting.start()
        try:
            yield self
        finally:
            self.is_cut, self.delay_seconds = False, 0.0
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            accepting.join()
            self.reset()

    def reset(self) -> None:
        """End every connection that there is, with what is on its way in it."""
        with self._lock:
            ended, self._open = self._open, []
        for each in ended:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._hold_back()
        try:
            far = self._connect()
        except OSError:  # the store is away
            near.close()
            return
        with self._lock:
            self._open += [near, far]
        back = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
        back.start()
        self._pass_on(near, far)
        back.join()
        for end in (near, far):
            end.close()
        with self._lock:
            self._open = [each for each in self._open if each not in (near, far)]

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._hold_back()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _hold_back(self) -> None:
        time.sleep(self.delay_seconds)
        while self.is_cut:
            time.sleep(0.02)


def to_unix(path: str) -> Callable[[], socket.socket]:
    """Return what connects to a Unix socket."""

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(path)
        except OSError:
            made.close()
            raise
        return made

    return connect


def to_tcp(host: str, port: int) -> Callable[[], socket.socket]:
    """Return what connects to a port."""
    return lambda: socket.create_connection((host, port), timeout=None)
