"""Forms that make something: sent twice, as by a double click, they make it once."""

import hashlib
import hmac
import json
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic import BaseModel
from starlette.datastructures import FormData

from app.web.dashboard.visitor import FORM_TOKEN, Form, Looking
from app.web.idempotency import Once, once

ONCE = "once"
"""The field with 256 random bits that a form gets when its page is made."""


class Made(BaseModel):
    """The id of what a form made."""

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
    """Return 256 bits that this form makes whenever it is sent, and nobody can tell without it.

    None for a form without its page's key.
    """
    key = str(form.get(ONCE, ""))
    return hmac.digest(key.encode(), _typed(form), "sha256") if key else None


def _typed(form: FormData) -> bytes:
    fields = form.multi_items()
    return json.dumps(
        sorted((name, str(value)) for name, value in fields if name != FORM_TOKEN)
    ).encode()


def made_id(answer: Response) -> str:
    """Return the id of what was made."""
    return Made.model_validate_json(bytes(answer.body)).id


Sent = Annotated[Once, Depends(_sent)]
"""How to do what a form of ours asks."""
