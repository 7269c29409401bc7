"""Models and data that are named by an address: which addresses are fetched from, and for whom.

The operator lists what may be fetched from: places such as ``https://models.example.com/released``
or ``s3://bucket/prefix``. ``{tenant}`` in a place stands for the name of the caller's tenant: what
lies below it is then that tenant's alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict

_PORTS = {"http": 80, "https": 443}
_UPLOAD = "upload:"
_SCHEMES = ("https", "http", "s3")
_NAME = re.compile(r"[A-Za-z0-9._:\-\[\]]+")


class Source(BaseModel):
    """Where the bytes of a model or dataset are to be fetched from, and which they are."""

    model_config = ConfigDict(frozen=True)

    url: str
    sha256: str | None = None
    """What the bytes must have; None: whatever comes is taken."""

    @classmethod
    def of_upload(cls, upload_id: str, sha256: str | None) -> Self:
        """Return an upload in our own storage, whose parts nobody has read yet."""
        return cls(url=_UPLOAD + upload_id, sha256=sha256)

    @property
    def upload_id(self) -> str | None:
        """The upload, where the bytes are in our own storage; no request can name one so."""
        return self.url.removeprefix(_UPLOAD) if self.url.startswith(_UPLOAD) else None


class AddressError(ValueError):
    """An address cannot be fetched from, whoever asks; the text says why."""


@dataclass(frozen=True)
class Address:
    """A URL, taken apart and checked."""

    scheme: str
    host: str
    """Of S3 the bucket."""
    port: int | None
    path: str
    """As it was written, from the first slash on."""
    query: str
    url: str

    @property
    def filename(self) -> str:
        """The last part of the path."""
        return unquote(self.path.rpartition("/")[2])

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart.

        Raises:
            AddressError: It has another scheme, no host, credentials, or a path that could climb.
        """
        if not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
            raise AddressError("must be ASCII without blanks: encode other characters as %XX")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise AddressError("must be a URL with a host and perhaps a port") from error
        if parts.scheme not in _SCHEMES:
            raise AddressError("must begin with https:// or s3://")
        if parts.username is not None or parts.password is not None:
            raise AddressError("must not hold a user name or a password")
        if parts.fragment or (parts.scheme == "s3" and parts.query):
            raise AddressError("must not have a fragment, nor a query where it begins with s3://")
        if not _NAME.fullmatch(parts.netloc) or not parts.hostname:
            raise AddressError("must name a host (s3://: a bucket)")
        _require_plain(parts)
        return cls(
            parts.scheme, parts.hostname, _port(parts.scheme, port), parts.path, parts.query, url
        )


@dataclass(frozen=True)
class Place:
    """What may be fetched from: a host or a bucket, and where in it."""

    scheme: str
    host: str
    port: int | None
    path: str
    options: tuple[tuple[str, str], ...] = ()
    """Of S3: the storage library's configuration, such as ``endpoint`` and ``region``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an entry of the list of places that may be fetched from.

        Raises:
            ValueError: It is none.
        """
        parts = urlsplit(text)
        address = Address.parse(parts._replace(query="").geturl().replace("{tenant}", "-tenant-"))
        path = address.path.replace("-tenant-", "{tenant}").rstrip("/")
        options = tuple(parse_qsl(parts.query))
        if options and address.scheme != "s3":
            raise AddressError(f"{text!r}: only a place of s3:// has options")
        return cls(address.scheme, address.host, address.port, path, options)

    def holds(self, address: Address, tenant: str) -> bool:
        """Return whether an address lies in this place, for a tenant."""
        path = self.path.replace("{tenant}", quote(tenant, safe=""))
        return (self.scheme, self.host, self.port) == (
            address.scheme,
            address.host,
            address.port,
        ) and (address.path == path or address.path.startswith(f"{path}/"))


def place_of(places: Iterable[Place], address: Address, tenant: str) -> Place | None:
    """Return the place that holds an address; None where it may not be fetched."""
    return next((place for place in places if place.holds(address, tenant)), None)


def _port(scheme: str, port: int | None) -> int | None:
    return port if port is not None else _PORTS.get(scheme)


def _require_plain(parts: SplitResult) -> None:
    """Refuse a path whose reader might leave the place that we take it to be in."""
    path = unquote(unquote(parts.path))
    climbs = any(segment in {".", ".."} for segment in re.split(r"[/\\]", path))
    hides = "\\" in path or re.search(r"%(2f|5c|00|25)", parts.path, re.IGNORECASE)
    if climbs or hides or not path.isprintable():
        raise AddressError("must have a path without '.', '..', '\\' or encoded slashes")
