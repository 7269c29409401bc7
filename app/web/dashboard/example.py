"""``/example``: a trained model and data for it, for those who have none at hand."""

import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from app import nudge
from app.domain.datasets import ImageOptions
from app.domain.models import ModelHints
from app.domain.problems import NotAvailable
from app.services import datasets, models
from app.web.dashboard import page
from app.web.dashboard.visitor import Form, Looking, Visitor
from app.web.uploads import kept_until_used, stored

router = APIRouter()

_MODEL, _DATA = "PP-OCRv6.onnx", "lines.npz"
_SECONDS = 60
_CHUNK = 1 << 20


def offered() -> bool:
    """Return whether the example is installed: it comes with ``planish[demo]``."""
    return find_spec("rapidocr") is not None


@router.post("/example")
async def take_example(visitor: Looking, form: Form) -> Response:  # noqa: ARG001 (it is checked)
    """Take in the demo's text reader with lines of text, and go on to a job."""
    if not offered():
        raise NotAvailable("The example is not installed: pip install 'planish[demo]'.")
    with TemporaryDirectory(prefix="planish-example-") as folder:
        # Drawing needs numpy and Pillow, which have no place in the gateway.
        files = [str(Path(folder) / name) for name in (_MODEL, _DATA)]
        argv = [sys.executable, "-m", "planish.demo.example", *files]
        await run_in_threadpool(subprocess.run, argv, check=True, timeout=_SECONDS)
        model = await _take(visitor, Path(folder) / _MODEL)
        dataset = await _take(visitor, Path(folder) / _DATA)
    return page.see(f"/jobs/new?model={model}&dataset={dataset}&goal=both")


async def _take(visitor: Visitor, file: Path) -> str:
    """Store a file as an upload, have it inspected, and return its id."""
    gateway = visitor.gateway
    incoming = await gateway.blobs.receive(_pieces(file), limit=gateway.settings.upload.max_bytes)
    async with kept_until_used(visitor.call, incoming, file.name) as received:
        if file.name == _MODEL:
            hints = ModelHints()
            row = models.new(visitor.tenant, "Example: a reader of text", file.name, hints)
            added = await stored(received, row)
        else:
            images = ImageOptions()
            data = datasets.new(visitor.tenant, "Example: lines of text", file.name, images)
            added = await stored(received, data)
    kind: nudge.Subject = "model" if file.name == _MODEL else "dataset"
    await run_in_threadpool(nudge.send, gateway.settings, kind, added)
    return added


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_CHUNK):
            yield piece
