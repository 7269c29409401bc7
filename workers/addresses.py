"""Connects to checked addresses only: the address that was checked is the one connected to.

A name is resolved once for a connection, every address that it has is judged, and the connection
goes to a judged address, not to the name: a name that changes between check and connect (DNS
rebinding) gains nothing. TLS and the ``Host`` header keep the name. However an address is spelled
(``0x7f.1``, ``[::ffff:7f00:1]``, a name), it is judged in the form in which it would be called.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from ipaddress import ip_address

import httpcore
import httpx

from app.domain.addresses import Address, Network, permitted

MAX_ADDRESSES = 4
"""The most permitted addresses of a host that are tried."""

Resolve = Callable[[str], Sequence[Address]]
Options = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]


class AddressRefused(Exception):  # noqa: N818 (a refusal, as in problems)
    """Every address of the host is private, and in none of the admitted networks."""


class NameUnknown(Exception):  # noqa: N818
    """The host has no address."""


def resolve(host: str) -> Sequence[Address]:
    """Return the addresses of ``host`` in the system's order of preference.

    Raises:
        NameUnknown: The host has no address, or the resolver does not answer.
    """
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameUnknown(host) from error
    return [ip_address(entry[4][0]) for entry in entries]


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections to permitted addresses.

    Of a name with permitted and other addresses, the permitted ones are used.

    Args:
        admitted: Networks that may be called although they are not public.
        resolver: How a name becomes addresses; called once for a connection.
    """

    def __init__(self, admitted: Iterable[Network], resolver: Resolve = resolve) -> None:
        self._admitted = tuple(admitted)
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's protocol)
        local_address: str | None = None,
        socket_options: Options | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first permitted address of ``host`` that answers.

        Raises:
            AddressRefused: None of its addresses is permitted.
            NameUnknown: It has no address.
            httpcore.ConnectError: No permitted address answers.
        """
        addresses = await _in_thread(self._resolver, host)
        checked = [address for address in addresses if permitted(address, self._admitted)]
        if not checked:
            raise AddressRefused(host)
        failure: httpcore.ConnectError | None = None
        for address in checked[:MAX_ADDRESSES]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                failure = error
        assert failure is not None
        raise failure


async def _in_thread(resolver: Resolve, host: str) -> Sequence[Address]:
    """Resolve in a daemon thread: a name server that hangs delays neither timeout nor exit."""
    future: Future[Sequence[Address]] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(resolver(host))
        except Exception as error:  # noqa: BLE001 (handed to the waiting task)
            future.set_exception(error)

    threading.Thread(target=work, name="resolve", daemon=True).start()
    return await asyncio.wrap_future(future)


@lru_cache(maxsize=1)
def trust() -> ssl.SSLContext:
    """Return the certificates that httpx trusts: certifi's, or those of ``SSL_CERT_FILE``."""
    return httpx.create_ssl_context()
