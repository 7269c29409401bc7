"""``/static``: the style and the scripts of the dashboard."""

from fastapi import APIRouter, Response

from app.domain.problems import NotFound
from app.web.dashboard.page import FILES, stored

router = APIRouter()


@router.get("/static/{version}/{name}")
def get_file(version: str, name: str) -> Response:  # noqa: ARG001 (it names the bytes for caches)
    """Return a file of ours; under this address it never changes."""
    if name not in FILES:
        raise NotFound(f"There is no file {name!r}.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(stored(name), headers=headers, media_type=FILES[name])
