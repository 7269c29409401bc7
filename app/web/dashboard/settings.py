"""``/keys``, ``/usage``: who may call, and how much was used."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from secrets import token_bytes

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from app.services import keys, usage
from app.web.dashboard import page
from app.web.dashboard.sending import Made, Sent, change, secret_of
from app.web.dashboard.visitor import Form, Looking, Visitor

router = APIRouter()


@router.get("/keys")
def list_keys(visitor: Looking) -> Response:
    """Show the tenant's keys; of each only that it exists."""
    return _keys(visitor)


@router.post("/keys")
def create_key(visitor: Looking, form: Form, once: Sent) -> Response:
    """Make a key for the tenant, shown this once; it may do no more than the visitor's own.

    Only its hash is stored, so a form that is sent twice makes the same key again.
    """
    name = str(form.get("name", "")).strip()[:200]
    wanted = [scope for scope in keys.SCOPES if scope in form.getlist("scopes")]
    scopes = tuple(scope for scope in wanted if scope in visitor.scopes)
    faults = {}
    if not name:
        faults["#/name"] = "Say who is to use the key: it is known by that name here."
    if not scopes:
        faults["#/scopes"] = "Choose what the key may do: read, write or both."
    if faults:
        return _keys(visitor, name=name, scopes=scopes, faults=faults)
    secret = secret_of(form) or token_bytes(32)

    def create(session: Session) -> Made:
        row, _ = keys.create(session, visitor.tenant, name, scopes, secret=secret)
        return Made(id=row.id)

    once(201, create)
    return _keys(visitor, made=keys.of_secret(secret))


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: str, once: Sent) -> Response:
    """Make a key of the tenant worthless."""
    change(once, keys.revoke, key_id)
    return page.see("/keys")


@router.get("/usage")
def show_usage(visitor: Looking) -> Response:
    """Show what the tenant has stored and computed."""
    with visitor.call.transaction() as session:
        stored = usage.stored(session, visitor.tenant)
        days = usage.days(session, visitor.tenant, None, datetime.now(UTC).date())
    return page.show(
        "usage.html",
        visitor,
        stored=stored,
        quota=visitor.gateway.settings.quota,
        days=list(reversed(days)),
    )


def _keys(
    visitor: Visitor,
    made: str | None = None,
    name: str = "",
    scopes: Collection[str] = keys.SCOPES,
    faults: Mapping[str, str] | None = None,
) -> Response:
    with visitor.call.transaction() as session:
        rows = keys.listed(session, visitor.tenant)
    return page.show(
        "keys.html",
        visitor,
        status=422 if faults else 200,
        keys=rows,
        made=made,
        name=name,
        scopes=scopes,
        faults=faults or {},
    )
