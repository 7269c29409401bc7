"""Server-sent events, read line by line."""

import json

from planish.types import Event


class Parser:
    """Makes events of the lines of a stream, as the HTML standard has it (section 9.2)."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def take(self, line: str) -> Event | None:
        """Take the next line; return the event that it completes, if it does."""
        if not line:
            fields, self._fields = self._fields, {}
            if "data" not in fields or "id" not in fields:
                return None
            return Event(
                number=int(fields["id"]),
                kind=fields.get("event", "message"),
                data=json.loads(fields["data"]),
            )
        if not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            known = self._fields.get(name)
            self._fields[name] = value if known is None else f"{known}\n{value}"
        return None
