"""Files that forms send."""

from collections.abc import Callable, Mapping

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from app import nudge
from app.domain.problems import Problem
from app.services import references
from app.services.uploads import Row
from app.web import problems
from app.web.dashboard import page
from app.web.dashboard.sending import Made, made_id
from app.web.dashboard.visitor import FORM_TOKEN, Visitor
from app.web.idempotency import Once
from app.web.intake import Kind, Named
from app.web.uploads import receive_or_take, stored

_FIELDS = {"url", "sha256", "cache"}
"""What a form says of a file at an address."""


def refer(
    visitor: Visitor, form: Mapping[str, object], kind: Kind[Row, Named], once: Once
) -> Response:
    """Have a file fetched from its address, once, and show what becomes of it.

    Raises:
        Invalid: A field is wrong.
        NotAvailable: Nothing may be fetched from there.
        TooManyRequests: The tenant waits for as many files as it may.
    """
    names = _FIELDS & kind.reference.model_fields.keys()
    given = {name: text for name in names if (text := str(form.get(name, "")).strip())}
    try:
        named = kind.reference.model_validate(given)
    except ValidationError as error:
        raise problems.unfit(error, given) from None
    row = kind.referred(visitor.tenant, named)
    settings = visitor.gateway.settings
    answer = once(
        202,
        lambda session: Made(id=references.add(session, settings, row, named).id),
        tell=kind.name,
    )
    return page.see(f"/{kind.name}s/{made_id(answer)}")


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
