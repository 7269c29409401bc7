"""``/static``: the style and the scripts of the dashboard."""

import gzip
from functools import lru_cache

from fastapi import APIRouter, Request, Response

from app.domain.problems import NotFound
from app.web.dashboard.page import FILES, stored

router = APIRouter()


@router.get("/static/{version}/{name}")
def get_file(request: Request, version: str, name: str) -> Response:  # noqa: ARG001 (for caches)
    """Return a file of ours; under this address it never changes.

    These files are compressed, pages are not: a page holds the token of its forms beside words from
    outside, and the length of what is compressed would tell of it (the BREACH attack).
    """
    if name not in FILES:
        raise NotFound(f"There is no file {name!r}.")
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "Vary": "Accept-Encoding",
    }
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(stored(name), headers=headers, media_type=FILES[name])
    headers["Content-Encoding"] = "gzip"
    return Response(_compressed(name), headers=headers, media_type=FILES[name])


@lru_cache
def _compressed(name: str) -> bytes:
    return gzip.compress(stored(name), mtime=0)
