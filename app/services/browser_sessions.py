"""Logs browsers in: a key is exchanged for a token that is valid for some hours."""

import hashlib
import hmac
import secrets

from sqlalchemy.orm import Session

from app.domain.problems import Unauthenticated
from app.services.keys import digest
from app.store import browser_sessions, keys

SessionRights = browser_sessions.SessionRights


def log_in(session: Session, key: str, hours: float) -> str:
    """Return a token for the holder of a key; only the hash of the token is stored.

    Raises:
        Unauthenticated: The key is unknown, expired or revoked.
    """
    key_id = keys.named(session, digest(key))
    if key_id is None:
        raise Unauthenticated("The API key is unknown, expired or revoked.")
    keys.note_use(session, digest(key))
    token = secrets.token_urlsafe(32)
    browser_sessions.begin(session, _hash(token), key_id, hours)
    return token


def log_out(session: Session, token: str) -> None:
    """Invalidate a token."""
    browser_sessions.end(session, _hash(token))


def rights_of(session: Session, token: str) -> SessionRights | None:
    """Return the tenant and scopes of a token, unless it or its key has expired."""
    return browser_sessions.rights_of(session, _hash(token))


def form_token(token: str) -> str:
    """Return the token against forged requests (CSRF) that every form of this session carries."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
