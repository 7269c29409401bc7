"""Files that forms send."""

from collections.abc import Callable
from typing import Literal, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import nudge
from app.domain.problems import Invalid, Problem
from app.domain.references import Reference
from app.web.dashboard import page
from app.web.dashboard.visitor import FORM_TOKEN, Form, Visitor
from app.web.uploads import Received, receive_or_take, stored

Named = TypeVar("Named", bound=Reference)


def refer(
    visitor: Visitor,
    form: Form,
    kind: Literal["model", "dataset"],
    reference: type[Named],
    add: Callable[[Session, Named], str],
) -> Response:
    """Have a file fetched from its address, and show what becomes of it."""
    given = {name: str(form.get(name, "")).strip() for name in ("url", "sha256")}
    try:
        named = reference.model_validate({name: text for name, text in given.items() if text})
        with visitor.call.transaction() as session:
            added = add(session, named)
    except ValidationError as error:
        faults = error.errors()
        detail = f"{faults[0]['loc'][0]}: {faults[0]['msg']}"
        return page.problem(Invalid(detail), visitor)
    except Problem as fault:
        return page.problem(fault, visitor)
    nudge.send(visitor.gateway.settings, kind, added)
    return page.see(f"/{kind}s/{added}")


async def take(
    request: Request,
    visitor: Visitor,
    form_token: str,
    kind: Literal["model", "dataset"],
    add: Callable[[Session, Received], str],
) -> Response:
    """Take in a file, have it inspected, and show what becomes of it.

    Args:
        request: its body is a form with the file; without one ``upload_id`` names an upload.
        visitor: who sends it.
        form_token: of the form; it is in the address, as the body is a file.
        kind: what the file is.
        add: stores the file's row and returns its id.
    """
    visitor.require_own_form({FORM_TOKEN: form_token})
    try:
        upload_id = request.query_params.get("upload_id")
        async with receive_or_take(request, visitor.call, kind, upload_id) as received:
            added = await stored(received, lambda session: add(session, received))
    except Problem as fault:
        return page.problem(fault, visitor)
    await run_in_threadpool(nudge.send, visitor.gateway.settings, kind, added)
    return page.see(f"/{kind}s/{added}")
