"""Stores files by the rules that the garbage collection of blobs relies on."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from app.blobs import Blob
from app.store import blob_rows
from app.store.session import transaction
from workers.worker import Worker


def put(worker: Worker, file: Path, held: Callable[[Session], None]) -> Blob:
    """Store a file; its row is written first, so that no collector deletes it too early.

    Args:
        worker: the worker, which has the stores.
        file: a file that nobody else can change meanwhile.
        held: raises LeaseLost if the caller may no longer publish.
    """
    with file.open("rb") as opened:
        sha256, size_bytes = hashlib.file_digest(opened, "sha256").hexdigest(), opened.tell()
    with transaction(worker.sessions) as session:
        held(session)
        blob_rows.touch(session, sha256, size_bytes)
    return worker.blobs.put_file(file)
