"""What no log may hold: the secrets that a test used, whatever looks like one, local variables."""

import json
import re

PASSWORD = "pass-word/of+the=store"
STORAGE_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
API_KEY = "plk_" + "k3y-of_a-tenant" * 3

_SECRETS = re.compile(
    r"plk_[\w-]{8,}|whsec_[\w+/=]{8,}|://[^\s/:@]*:(?!…)[^\s@]+@|Failing row|'locals'|\"locals\""
)


def leaks(log: str, *secrets: str) -> list[str]:
    """Return the lines that hold one of ``secrets`` or anything that looks like one."""
    known = {PASSWORD, STORAGE_KEY, API_KEY, *secrets}
    known |= {json.dumps(secret)[1:-1] for secret in known}
    lines = log.splitlines()
    return [line for line in lines if _SECRETS.search(line) or any(each in line for each in known)]


def plain(log: str) -> list[str]:
    """Return the lines that are no JSON object with an event and a time."""
    return [line for line in log.splitlines() if not _is_event(line)]


def _is_event(line: str) -> bool:
    try:
        return bool({"event", "level", "timestamp"} <= json.loads(line).keys())
    except (ValueError, AttributeError):
        return False
