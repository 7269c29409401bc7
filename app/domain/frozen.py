"""Values that are made once and never changed."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: made once, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
