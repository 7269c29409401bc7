"""Steps whose result was made before for the same tenant, with all the same: it is taken.

All the same means: the model's graphs, the data, the steps up to this one, the graph that it is
given, the seed, what else of the request a step may read, and what makes it: versions, machine,
device, threads. All that has one key, a hash, which is stored with the step.

The graph counts by its bytes, as the same steps need not come to the same graph on every machine.
It is not known before the step before has been made, so the rest has a key of its own until then.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.jobs import JobRequest
from app.domain.layer_forms import held_by_all, held_by_any
from app.store import blob_rows
from app.store.tables import JobRow, Json, StepRow

_NOT_READ = frozenset(
    {
        "model",
        "dataset",
        "name",
        "tags",
        "steps",
        "objective",
        "target",
        "deliver",
        "webhook",
        "limits",
        "priority",
        "requires",
    }
)
"""Fields of a request that no step reads, or whose content has a hash of its own.

A step that chooses among forms reads of ``deliver`` which of them the formats hold.
"""

_TAKEN = "Its result was taken from"
"""What the note of such a step begins with."""


def keys(request: JobRequest, contents: Sequence[str], maker: str) -> tuple[str, ...]:
    """Return the key of each step of a job, but for the graph that it is given.

    Args:
        request: of the job.
        contents: the SHA-256 of each thing that the job reads, and how it is read, always in the
            same order.
        maker: what makes the steps: versions, machine, device, threads.
    """
    common = [maker, list(contents), request.model_dump(mode="json", exclude=set(_NOT_READ))]
    found, done = [], list[object]()
    for step in request.steps or ():
        done.append(step.model_dump(mode="json"))
        if step.chooses_forms:
            done.append([sorted(held(request.deliver)) for held in (held_by_all, held_by_any)])
        found.append(_hash([common, done]))
    return tuple(found)


def whole_key(key: str, graph_sha256: str) -> str:
    """Return the key of a step under which its result is stored.

    Args:
        key: as ``keys`` returns it.
        graph_sha256: of the graph that the step is given.
    """
    return _hash([key, graph_sha256])


def take(
    session: Session,
    job: JobRow,
    keys: Sequence[str],
    graph_sha256: str,
    finished: Mapping[int, str],
) -> None:
    """Give a job the results of its first steps that were made before.

    Args:
        session: In which the job is claimed.
        job: That is claimed.
        keys: Of its steps, as ``keys`` returns them.
        graph_sha256: Of the graph that the first step is given.
        finished: The SHA-256 of the graphs of the steps that it has finished itself, by index.
    """
    given = graph_sha256
    for index, each in enumerate(keys):
        if index in finished:
            given = finished[index]
            continue
        key = whole_key(each, given)
        earlier = session.scalars(
            select(StepRow)
            .where(
                StepRow.tenant == job.tenant,
                StepRow.key == key,
                StepRow.job_id != job.id,
                StepRow.graph_sha256.is_not(None),
            )
            .limit(1)
        ).first()
        if earlier is None or earlier.graph_sha256 is None:
            return
        if not blob_rows.touch_published(session, earlier.graph_sha256):
            return  # it was deleted at this moment
        notes = [each for each in earlier.finished["notes"] if not each.startswith(_TAKEN)]
        source = f"{_TAKEN} {earlier.job_id}, which made it of the same graph, data and parameters."
        changes = {
            "seconds": 0.0,
            "taken_seconds": _seconds(earlier.finished),
            "notes": [*notes, source],
        }
        session.merge(
            StepRow(
                job_id=job.id,
                index=index,
                tenant=job.tenant,
                key=key,
                graph_sha256=earlier.graph_sha256,
                size_bytes=earlier.size_bytes,
                finished={**earlier.finished, **changes},
            )
        )
        given = earlier.graph_sha256
    session.flush()


def seconds(session: Session, job_id: str) -> float:
    """Return what the finished steps of a job took to make, whichever job has made them."""
    found = session.scalars(select(StepRow.finished).where(StepRow.job_id == job_id))
    return round(sum(map(_seconds, found)), 3)


def _seconds(finished: Json) -> float:
    return float(finished.get("taken_seconds") or finished.get("seconds", 0.0))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
