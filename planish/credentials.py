"""Which service to call, and with which key: given, of the environment, or kept by a login."""

import json
import os
from pathlib import Path
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8080"


def url_or_default(url: str | None) -> str:
    """Return ``url``; else ``PLANISH_URL``; else where the last login was; else this machine."""
    return url or configured_url() or DEFAULT_URL


def configured_url() -> str | None:
    """Return the URL that the environment or the last login names."""
    return os.environ.get("PLANISH_URL") or _kept().get("url")


def key_or_default(key: str | None, url: str) -> str | None:
    """Return ``key``; else ``PLANISH_API_KEY`` or ``PLANISH_KEY``; else the login's at ``url``."""
    given = key or os.environ.get("PLANISH_API_KEY") or os.environ.get("PLANISH_KEY")
    found: str | None = given or _kept().get("keys", {}).get(url.rstrip("/"))
    return found


def keep(url: str, key: str | None) -> Path:
    """Keep a login in a file that its owner alone may read; return where."""
    kept = _kept()
    keys = {**kept.get("keys", {}), url.rstrip("/"): key}
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"url": url.rstrip("/"), "keys": keys}, file, indent=1)
    new.replace(path)
    return path


def _kept() -> dict[str, Any]:
    try:
        kept = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "planish" / "credentials.json"
