"""Files that forms send."""

from collections.abc import Callable

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from app import nudge
from app.domain.problems import Invalid, Problem
from app.services import references
from app.services.uploads import Row
from app.web.dashboard import page
from app.web.dashboard.visitor import FORM_TOKEN, Form, Visitor
from app.web.intake import Kind, Named
from app.web.uploads import receive_or_take, stored

_FIELDS = {"url", "sha256", "cache"}
"""What a form says of a file at an address."""


def refer(visitor: Visitor, form: Form, kind: Kind[Row, Named]) -> Response:
    """Have a file fetched from its address, and show what becomes of it."""
    names = _FIELDS & kind.reference.model_fields.keys()
    given = {name: str(form.get(name, "")).strip() for name in names}
    try:
        named = kind.reference.model_validate({name: text for name, text in given.items() if text})
        row = kind.referred(visitor.tenant, named)
        with visitor.call.transaction() as session:
            added = references.add(session, visitor.gateway.settings, row, named).id
    except ValidationError as error:
        faults = error.errors()
        detail = f"{faults[0]['loc'][0]}: {faults[0]['msg']}"
        return page.problem(Invalid(detail), visitor)
    except Problem as fault:
        return page.problem(fault, visitor)
    nudge.send(visitor.gateway.settings, kind.name, added)
    return page.see(f"/{kind.name}s/{added}")


async def take(
    request: Request,
    visitor: Visitor,
    form_token: str,
    kind: Kind[Row, Named],
    new: Callable[[str | None], Row],
) -> Response:
    """Take in a file, have it inspected, and show what becomes of it.

    Args:
        request: its body is a form with the file; without one ``upload_id`` names an upload.
        visitor: who sends it.
        form_token: of the form; it is in the address, as the body is a file.
        kind: what the file is.
        new: makes the file's row, of the name that came with it.
    """
    visitor.require_own_form({FORM_TOKEN: form_token})
    try:
        upload_id = request.query_params.get("upload_id")
        async with receive_or_take(request, visitor.call, kind.name, upload_id) as received:
            added = await stored(received, new(received.filename))
    except Problem as fault:
        return page.problem(fault, visitor)
    await run_in_threadpool(nudge.send, visitor.gateway.settings, kind.name, added)
    return page.see(f"/{kind.name}s/{added}")
