"""``/v1/usage``: what the tenant used, for its bill."""

import re
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator

from app.domain.problems import Invalid
from app.services import usage
from app.services.usage import UsageDay
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(tags=["usage"])

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(_DAY.pattern + r"[Tt ][\d:.]+([Zz]|[+-]\d{2}:\d{2})")


def _written(value: object) -> object:
    """Return the day of a moment, and refuse what pydantic would take for seconds since 1970."""
    if not isinstance(value, str) or _DAY.fullmatch(value):
        return value
    try:
        if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value.upper()).astimezone(UTC).date()
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a day such as 2026-01-31, or a moment of one in RFC 3339")


Day = Annotated[date, BeforeValidator(_written)]
First = Annotated[
    Day | None, Query(alias="from", description="The first day, in UTC. Default: 30 days.")
]
Last = Annotated[Day | None, Query(alias="to", description="The last day, in UTC. Default: today.")]


class UsageDays(BaseModel):
    """One entry a day, the oldest first."""

    items: list[UsageDay]


@router.get("/usage", responses=documented(Invalid))
def get_usage(call: Caller, first: First = None, last: Last = None) -> UsageDays:
    """Return the seconds of processors and GPUs, the jobs that ended and the bytes stored, by day.

    Deleted jobs stay counted. A day's bytes are the most that was stored when something was
    uploaded or a job ended.
    """
    with call.transaction() as session:
        until = last or datetime.now(UTC).date()
        return UsageDays(items=usage.days(session, call.tenant, first, until))
