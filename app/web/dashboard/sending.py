"""Forms that make or change something: sent twice, as by a double click, they do it once."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.web.dashboard.visitor import FORM_TOKEN, Form, Looking
from app.web.idempotency import Once, once

ONCE = "once"
"""The field with 256 random bits that a form gets when its page is made."""


class Made(BaseModel):
    """The id of what a form made or changed."""

    id: str


def _sent(request: Request, visitor: Looking, form: Form) -> Once:
    """Return how to do what a form asks once, however often it is sent as it is.

    The page's key and what was typed are the key together: whoever goes back and changes a field
    asks for another thing.
    """
    asked = hashlib.sha256(_typed(form))
    key = asked.hexdigest() if form.get(ONCE) else None
    return once(request, visitor.call, key, asked.digest(), waits=True)


def secret_of(form: FormData) -> bytes | None:
    """Return 256 secret bits: the same ones whenever this form is sent.

    They follow from the page's key and from what was typed; nobody can compute them without the
    key. A form without a key has none.
    """
    key = str(form.get(ONCE, ""))
    return hmac.digest(key.encode(), _typed(form), "sha256") if key else None


def _typed(form: FormData) -> bytes:
    fields = form.multi_items()
    return json.dumps(
        sorted((name, str(value)) for name, value in fields if name != FORM_TOKEN)
    ).encode()


def change(once: Once, verb: Callable[[Session, str, str], object], thing: str) -> None:
    """Change or delete one of the visitor's things, once: a second click finds it done.

    Args:
        once: how to do what the form asks.
        verb: does it, in a transaction, to a tenant's thing with this id.
        thing: the id.
    """

    def work(session: Session) -> Made:
        verb(session, once.call.tenant, thing)
        return Made(id=thing)

    once(200, work)


def made_id(answer: Response) -> str:
    """Return the id of what was made."""
    return Made.model_validate_json(bytes(answer.body)).id


Sent = Annotated[Once, Depends(_sent)]
"""How to do what a form of ours asks."""
