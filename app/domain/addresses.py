"""Which addresses webhooks may call: public ones, and those that the operator permits.

The table replaces ``ipaddress.is_global``, which calls multicast global and differs between Python
versions. Source: IANA's special-purpose address registries (IPv4 and IPv6) of 2025.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and a cloud's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # another cloud's metadata, at a public address
            "169.254.0.0/16",  # link-local, and most clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)

_UNICAST = IPv6Network("2000::/3")
"""All that is allocated for public use in IPv6; what lies outside is private or special."""

_NOT_PUBLIC_IN_UNICAST = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, among them Teredo
            "2001:db8::/32",
            "2002::/16",  # 6to4: carries an IPv4 address past this table
            "3fff::/20",
        ),
    )
)

_NAT64 = IPv6Network("64:ff9b::/96")

_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The upper half of interface identifiers that carry an IPv4 address (RFC 5214)."""


def permitted(address: Address, admitted: Iterable[Network] = ()) -> bool:
    """Return whether ``address`` may be called.

    An IPv6 address that stands for an IPv4 address (mapped, or NAT64 by the well-known prefix) is
    judged as that one.

    Args:
        address: Where a connection would go.
        admitted: Networks that may be called although they are not public.
    """
    target = _destination(address)
    if any(target in network for network in admitted):
        return True
    if isinstance(target, IPv4Address):
        return not any(target in network for network in _NOT_PUBLIC)
    return (
        target in _UNICAST
        and not any(target in network for network in _NOT_PUBLIC_IN_UNICAST)
        and int(target) >> 32 & 0xFFFF_FFFF not in _ISATAP
    )


def spelled_out(host: str) -> list[Address]:
    """Return the IP addresses that a URL's host states literally; none for host names.

    Args:
        host: As a URL parser leaves it: ``127.1`` has become ``127.0.0.1``.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # by RFC 6761
        return [IPv4Address("127.0.0.1"), IPv6Address("::1")]
    try:
        return [ip_address(name)]
    except ValueError:
        return []


def admission(setting: str, addresses: Iterable[Address]) -> str:
    """Say how whoever runs the service admits addresses that are not public.

    Args:
        setting: the environment variable that holds the networks which are admitted.
        addresses: of a host that is refused.
    """
    networks = ",".join(str(_network_of(address)) for address in addresses)
    return f"Whoever runs the service can admit it: {setting}={networks} in its environment"


def _network_of(address: Address) -> Network:
    """Return the network that an address belongs to which is not public; else the address alone."""
    target = _destination(address)
    known = (network for network in _NOT_PUBLIC if target in network)
    return next(known, ip_network(target))


def _destination(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address
