"""Forms that make something: sent twice, as by a double click, they make it once."""

import hashlib
import json
from typing import Annotated

from fastapi import Depends, Request, Response

from app.web.dashboard.visitor import FORM_TOKEN, Form, Looking
from app.web.idempotency import Once, once

ONCE = "once"
"""The field with the key that a form gets when its page is made."""


def _sent(request: Request, visitor: Looking, form: Form) -> Once:
    """Return how to do what a form asks once, however often it is sent as it is.

    The page's key and what was typed are the key together: whoever goes back and changes a field
    asks for another thing.
    """
    typed = sorted((name, str(value)) for name, value in form.multi_items() if name != FORM_TOKEN)
    asked = hashlib.sha256(json.dumps(typed).encode())
    key = asked.hexdigest() if form.get(ONCE) else None
    return once(request, visitor.call, key, asked.digest(), waits=True)


def made_id(answer: Response) -> str:
    """Return the id of what was made."""
    return str(json.loads(bytes(answer.body))["id"])


Sent = Annotated[Once, Depends(_sent)]
"""How to do what a form of ours asks."""
