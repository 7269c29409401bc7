"""Uploads of several requests, before a model or a dataset is made of them."""

import base64
import re

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Upload(BaseModel):
    """An upload as clients see it."""

    id: str
    length: int
    """Bytes that it is going to have."""
    offset: int
    """Bytes that have arrived."""
    filename: str | None
    direct: bool = False
    """Whether the storage takes the bytes as well: `GET /v1/uploads/{id}/parts`."""
    created_at: AwareDatetime
    expires_at: AwareDatetime
    """It is forgotten then, also if it is complete."""


class Part(BaseModel):
    """A part of an upload that the storage takes directly."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    start: int
    """Where its bytes begin."""
    size_bytes: int
    url: str
    """Takes exactly these bytes as the body of a `PUT`, without our key."""


class Parts(BaseModel):
    """The parts of an upload that the storage does not have yet."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[Part]
    headers: dict[str, str]
    """What each `PUT` has to say."""
    expires_at: AwareDatetime
    """The addresses are good until then; ask again for new ones."""


class SentPart(BaseModel):
    """A part that a client has sent to the storage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    start: int = Field(ge=0)
    etag: str = Field(min_length=1, max_length=200)
    """The header `ETag` of the storage's answer."""


class Sent(BaseModel):
    """What a client says when it has sent all parts of an upload to the storage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    parts: list[SentPart] = Field(default=[], max_length=10_000)
    """Parts whose bytes must not have been replaced since. Default: sizes alone are checked."""


def metadata_pairs(text: str) -> dict[str, bytes]:
    """Return the values of ``Upload-Metadata``, which are base64, by name.

    Raises:
        ValueError: It is not pairs of a name and a value in base64, or ``sha256`` is no SHA-256.
    """
    pairs = [pair.strip().partition(" ") for pair in text.split(",") if pair.strip()]
    values = {name: base64.b64decode(value, validate=True) for name, _, value in pairs}
    if "sha256" in values and not _SHA256.fullmatch(values["sha256"].decode("ascii", "replace")):
        raise ValueError("sha256 is not 64 hexadecimal digits")
    return values


def announced_sha256(metadata: str) -> str | None:
    """Return the SHA-256 that ``Upload-Metadata`` announces for the whole, or None."""
    value = metadata_pairs(metadata).get("sha256")
    return None if value is None else value.decode("ascii").lower()
