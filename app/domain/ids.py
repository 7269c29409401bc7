"""Opaque ids: a prefix that says what it is, and 96 random bits."""

import secrets
from typing import Literal

Prefix = Literal[
    "mdl", "dst", "job", "art", "whk", "dlv", "msg", "key", "wrk", "gtw", "upl", "dev", "mea"
]


def new(prefix: Prefix) -> str:
    """Return a fresh id, such as ``job_5f0c…`` (24 hexadecimal digits)."""
    return f"{prefix}_{secrets.token_hex(12)}"
