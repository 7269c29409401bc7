"""Answers that are written once, where they are made.

FastAPI would validate a model again, in another thread, before it writes it.
"""

from fastapi import Response
from pydantic import BaseModel


def written(model: BaseModel, status: int = 200) -> Response:
    """Return a model as JSON."""
    return Response(model.model_dump_json(), status, media_type="application/json")
