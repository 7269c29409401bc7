"""Logging in with a browser: a key in, a token out that stands for it for some hours."""

import hashlib
import hmac
import secrets

from sqlalchemy.orm import Session

from app.domain.problems import Unauthenticated
from app.services.keys import digest
from app.store import browser_sessions, keys


def log_in(session: Session, key: str, hours: float) -> str:
    """Return a token for the holder of a key; only its hash is kept.

    Raises:
        Unauthenticated: The key is unknown, expired or revoked.
    """
    key_id = keys.named(session, digest(key))
    if key_id is None:
        raise Unauthenticated("The API key is unknown, expired or revoked.")
    token = secrets.token_urlsafe(32)
    browser_sessions.begin(session, _hash(token), key_id, hours)
    return token


def log_out(session: Session, token: str) -> None:
    """Make a token worthless."""
    browser_sessions.end(session, _hash(token))


def known(session: Session, token: str) -> browser_sessions.Known | None:
    """Return whose token this is, unless it or its key is over."""
    return browser_sessions.known(session, _hash(token))


def form_token(token: str) -> str:
    """Return what every form of this session carries; other sites cannot know it."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
