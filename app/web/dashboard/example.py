"""``/example``: a trained model and data for it, for those who have none at hand."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app import nudge
from app.domain.datasets import ImageOptions
from app.domain.models import ModelHints
from app.domain.problems import NotAvailable
from app.services import datasets, models
from app.web.arrivals import moving
from app.web.dashboard import page
from app.web.dashboard.sending import Sent
from app.web.dashboard.visitor import Looking, Visitor
from app.web.idempotency import Once
from app.web.uploads import Received, kept_until_used

router = APIRouter()

_MODEL, _DATA = "PP-OCRv6.onnx", "lines.npz"
_SECONDS = 60
_CHUNK = 1 << 20


def offered() -> bool:
    """Return whether the example is installed: it comes with ``planish[demo]``."""
    return find_spec("rapidocr") is not None


class Example(BaseModel):
    """The ids of the example's model and data."""

    model: str
    dataset: str


@router.post("/example")
async def take_example(visitor: Looking, once: Sent) -> Response:
    """Take in the demo's text reader with lines of text, once, and go on to a job."""
    if not offered():
        raise NotAvailable("The example is not installed: pip install 'planish[demo]'.")
    with TemporaryDirectory(prefix="planish-example-") as folder:
        # Drawing needs numpy and Pillow, which have no place in the gateway.
        files = [Path(folder) / name for name in (_MODEL, _DATA)]
        argv = [sys.executable, "-m", "planish.demo.example", *map(str, files)]
        await run_in_threadpool(subprocess.run, argv, check=True, timeout=_SECONDS)
        async with _received(visitor, files[0]) as model, _received(visitor, files[1]) as data:
            made = await moving(_stored, visitor, once, model, data)
    await run_in_threadpool(nudge.send, visitor.gateway.settings, "model", made.model)
    await run_in_threadpool(nudge.send, visitor.gateway.settings, "dataset", made.dataset)
    return page.see(f"/jobs/new?model={made.model}&dataset={made.dataset}&goal=both")


@asynccontextmanager
async def _received(visitor: Visitor, file: Path) -> AsyncIterator[Received]:
    """Bring a file into the storage, as if it had been uploaded."""
    gateway = visitor.gateway
    incoming = await gateway.blobs.receive(_pieces(file), limit=gateway.settings.upload.max_bytes)
    async with kept_until_used(visitor.call, incoming, file.name) as received:
        yield received


def _stored(visitor: Visitor, once: Once, model: Received, data: Received) -> Example:
    """Publish both files, and store what they are."""

    def publish() -> None:
        model.publish()
        data.publish()

    def store(session: Session) -> Example:
        tenant = visitor.tenant
        reader = models.new(tenant, "Example: a reader of text", model.filename, ModelHints())
        lines = datasets.new(tenant, "Example: lines of text", data.filename, ImageOptions())
        return Example(model=model.kept(session, reader), dataset=data.kept(session, lines))

    return Example.model_validate_json(bytes(once(201, store, first=publish).body))


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_CHUNK):
            yield piece
