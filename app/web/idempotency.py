"""``Idempotency-Key``: a POST that is sent again is not done again."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app import nudge
from app.services import once as answers
from app.web.gateway import Call
from app.web.security import Caller

Answer = TypeVar("Answer", bound=BaseModel)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key with the same body gives the same answer, for a day.",
    ),
]


@dataclass(frozen=True)
class Once:
    """A POST whose work is done at most once for its key."""

    call: Call
    key: answers.Key | None
    body_sha256: bytes
    waits: bool = False
    """Whether a request waits until the first one with its key has finished, or is refused."""

    def __call__(
        self,
        status: int,
        work: Callable[[Session], Answer],
        *,
        first: Callable[[], None] | None = None,
        tell: nudge.Subject | Callable[[Answer], nudge.Subject] | None = None,
        done: Callable[[Answer], bool] = lambda _: True,
    ) -> Response:
        """Do ``work`` and store its answer in one transaction, or give the stored answer again.

        Args:
            status: Of the answer.
            work: What raises is neither done nor stored.
            first: Is done before the transaction, unless there is a stored answer: bytes move, and
                no row is locked meanwhile.
            tell: After commit, workers are told to look at the row with the answer's ``id``. This
                is its subject, or a function that returns the subject of the answer.
            done: Whether anything was done, by the answer: if not, the answer is not stored.

        Raises:
            RequestInFlight: The first request with this key has not finished.
            IdempotencyMismatch: The first request with this key had another body.
        """
        if first is not None:
            with self.call.transaction() as session:
                stored = self._stored(session)
            if stored is not None:
                return stored
            first()
        with self.call.transaction() as session:
            stored = self._stored(session)
            if stored is not None:
                return stored
            answer = work(session)
            body = answer.model_dump_json().encode()
            if self.key is not None and done(answer):
                answers.keep(session, self.key, self.body_sha256, status, body)
        if tell is not None:
            tell = tell(answer) if callable(tell) else tell
            nudge.send(self.call.gateway.settings, tell, json.loads(body)["id"])
        return Response(body, status, media_type="application/json")

    def _stored(self, session: Session) -> Response | None:
        if self.key is None:
            return None
        hours = self.call.gateway.settings.idempotency.hours
        answer = answers.given(session, self.key, self.body_sha256, hours, waits=self.waits)
        if answer is None:
            return None
        headers = {"Idempotent-Replay": "true"}
        return Response(answer.body, answer.status, headers, "application/json")


def once(
    request: Request, call: Call, key: str | None, body_sha256: bytes, *, waits: bool = False
) -> Once:
    """Return how to answer this request once; ``body_sha256`` stands for all that it asks."""
    named = key and answers.Key(call.tenant, request.method, request.url.path, key)
    return Once(call, named or None, body_sha256, waits)


async def _of_body(request: Request, call: Caller, key: IdempotencyKey = None) -> Once:
    return once(request, call, key, hashlib.sha256(await request.body()).digest())


Posted = Annotated[Once, Depends(_of_body)]
"""Of a POST with a small body."""
