"""Only permitted addresses are connected to, however they are spelled."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.addresses import Address, Network, permitted
from workers.addresses import AddressRefused, CheckedBackend, NameUnknown, Resolve, resolve

LOOPBACK = (IPv4Network("127.0.0.0/8"),)

METADATA = IPv4Address("169.254.169.254")

PRIVATE_NETWORKS = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
]

private = st.one_of(
    st.just(METADATA),
    *(st.ip_addresses(v=4, network=network) for network in PRIVATE_NETWORKS),
)


def number(value: int, base: str) -> str:
    return {"d": str(value), "x": hex(value), "X": f"0X{value:X}", "o": f"0{value:o}"}[base]


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """Every way that inet_aton and IPv6 know to write a private IPv4 address."""
    address = int(draw(private))
    base = st.sampled_from("dxXo")
    first, second, third, fourth = address.to_bytes(4, "big")
    whole, tail = f"{address >> 16:x}", f"{address & 0xFFFF:x}"
    return draw(
        st.sampled_from(
            [
                str(IPv4Address(address)),
                number(address, draw(base)),
                ".".join([number(first, draw(base)), number(address & 0xFFFFFF, draw(base))]),
                ".".join(number(part, draw(base)) for part in (first, second, address & 0xFFFF)),
                ".".join(number(part, draw(base)) for part in (first, second, third, fourth)),
                f"::ffff:{IPv4Address(address)}",
                f"::ffff:{whole}:{tail}",
                f"0:0:0:0:0:FFFF:{whole}:{tail}",
                f"::{whole}:{tail}",
                f"64:ff9b::{whole}:{tail}",
                f"64:ff9b:1::{whole}:{tail}",
                f"2002:{whole}:{tail}::1",
                f"2001:0:{whole}:{tail}::1",
                f"2a00::5efe:{whole}:{tail}",
            ]
        )
    )


def connect(
    host: str, port: int, admitted: Sequence[Network], resolver: Resolve = resolve
) -> httpcore.AsyncNetworkStream:
    backend = CheckedBackend(admitted, resolver)

    async def once() -> httpcore.AsyncNetworkStream:
        async with asyncio.timeout(5):
            stream = await backend.connect_tcp(host, port)
            await stream.aclose()
            return stream

    return asyncio.run(once())


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[socket.socket]:
    with closing(socket.create_server((host, port))) as server:
        server.settimeout(0.2)
        yield server


def connected(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except TimeoutError:
        return False
    return True


@given(spelled())
def test_no_spelling_of_a_private_address_is_connected_to(host: str) -> None:
    with pytest.raises((AddressRefused, NameUnknown)):
        connect(host, 9, admitted=())


@pytest.mark.parametrize(
    "host",
    ["::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "localhost",
     "100.100.100.200", "168.63.129.16", "192.0.0.192"],
)  # fmt: skip
def test_special_addresses_are_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        connect(host, 9, admitted=())


@given(st.ip_addresses())
def test_what_is_permitted_is_global_for_python_too(address: Address) -> None:
    if permitted(address) and not (isinstance(address, IPv6Address) and address.ipv4_mapped):
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_permitted(text: str) -> None:
    assert permitted(ip_address(text))


def test_an_admitted_network_is_connected_to_by_any_spelling() -> None:
    with listening("127.0.0.1") as server:
        for host in ("127.0.0.1", "127.1", "0x7f.1", "2130706433", "::ffff:127.0.0.1", "localhost"):
            connect(host, server.getsockname()[1], LOOPBACK)
            assert connected(server), host


def test_of_two_addresses_only_the_permitted_one_is_connected_to() -> None:
    both = [IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")]
    with listening("127.0.0.1") as private_one:
        port = private_one.getsockname()[1]
        with listening("127.0.0.2", port) as admitted_one:
            connect("two.example", port, (IPv4Network("127.0.0.2/32"),), lambda _: both)
            assert connected(admitted_one)
            assert not connected(private_one)


def test_a_name_that_changes_after_the_check_gains_nothing() -> None:
    """Rebinding: the checked address is connected to; the name is not asked a second time."""
    answers = iter([[IPv4Address("127.0.0.2")], [IPv4Address("127.0.0.1")]])
    with listening("127.0.0.1") as private_one:
        port = private_one.getsockname()[1]
        with listening("127.0.0.2", port) as admitted_one:
            admitted = (IPv4Network("127.0.0.2/32"),)
            connect("rebinding.example", port, admitted, lambda _: next(answers))
            assert connected(admitted_one)
            with pytest.raises(AddressRefused):
                connect("rebinding.example", port, admitted, lambda _: next(answers))
            assert not connected(private_one)


def test_the_next_permitted_address_is_tried_where_one_does_not_answer() -> None:
    both = [IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")]
    with listening("127.0.0.2") as server:
        connect("two.example", server.getsockname()[1], LOOPBACK, lambda _: both)
        assert connected(server)


def test_a_name_server_that_hangs_is_cut_off_in_time() -> None:
    """Neither the timeout nor the end of the event loop waits for the resolver."""
    answered = threading.Event()

    def hang(_: str) -> list[Address]:
        answered.wait(30)
        return []

    async def bounded() -> None:
        async with asyncio.timeout(0.1):
            await CheckedBackend((), hang).connect_tcp("slow.example", 80)

    with pytest.raises(TimeoutError):
        asyncio.run(bounded())
    assert not answered.is_set()
    answered.set()


def test_an_unknown_name_is_told_apart_from_a_refused_address() -> None:
    with pytest.raises(NameUnknown):
        connect("no-such-host.invalid", 80, LOOPBACK)
