"""The client, written once: ``scripts/unasync.py`` makes ``planish/_sync`` of this package."""

from planish._async.client import AsyncClient
from planish._async.jobs import AsyncJob

__all__ = ["AsyncClient", "AsyncJob"]
