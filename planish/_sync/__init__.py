# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""The client, written once: ``scripts/unasync.py`` makes ``planish/_sync`` of this package."""

from planish._sync.client import Client
from planish._sync.jobs import Job

__all__ = ["Client", "Job"]
