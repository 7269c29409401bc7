"""Resumable uploads, before a model or a dataset is made of them."""

from pydantic import AwareDatetime, BaseModel


class Upload(BaseModel):
    """An upload as clients see it."""

    id: str
    length: int
    """Bytes that it is going to have."""
    offset: int
    """Bytes that have arrived."""
    filename: str | None
    created_at: AwareDatetime
    expires_at: AwareDatetime
    """It is forgotten then, also if it is complete."""
