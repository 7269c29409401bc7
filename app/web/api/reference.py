"""``/docs``: the API's description for people."""

from fastapi import APIRouter, Request, Response

from app.web import pages, reference

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def docs(request: Request) -> Response:
    """Show what ``/openapi.json`` says."""
    headers = {"Content-Security-Policy": pages.csp()}
    return Response(
        reference.render(request.app.openapi()), headers=headers, media_type="text/html"
    )
