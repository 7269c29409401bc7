"""Bodies that name a file by its address: JSON, where a file's bytes would be."""

import json
from hashlib import sha256
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from app.domain.problems import FieldError, Invalid, MalformedRequest
from app.domain.references import Reference
from app.web import problems

JSON = "application/json"

Kind = TypeVar("Kind", bound=Reference)


def names_address(content_type: str | None) -> bool:
    """Return whether a body of this type names a file, and is not one."""
    return (content_type or "").partition(";")[0].strip().lower() == JSON


async def read(request: Request, kind: type[Kind], upload_id: str | None) -> Kind:
    """Read the body.

    Raises:
        MalformedRequest: It is not JSON.
        Invalid: Fields of it are wrong, or the request names an upload as well.
    """
    if upload_id is not None:
        fault = FieldError(pointer="#/query/upload_id", detail="stands in place of a body")
        raise Invalid("Send either an address or upload_id.", errors=[fault])
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"The body is not valid JSON: {error}"[:200]) from error
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise problems.unfit(error, body) from None


async def fingerprint(request: Request) -> bytes:
    """Return what stands for the whole request: the body and the query."""
    return sha256(await request.body() + b"?" + request.url.query.encode()).digest()
