"""All problems that Planish reports: one tree of errors, one shape (RFC 9457).

A class is a *kind* of problem: its ``type``, ``title`` and ``status`` never change, and its
docstring says when it happens. An instance adds what is particular: ``detail`` (what was wrong and
what to do instead), ``errors`` (one for each faulty field) and ``extra`` (numbers that a program
may read).

    Problem
    ├── Refused (4xx)           bad input, missing rights, a state that forbids it
    └── Failed  (job or model)  what only a run can find; stored in the resource's ``problem``
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class FieldError(BaseModel):
    """One faulty field of a request: where it is and what is wrong with it."""

    pointer: str
    """JSON pointer in fragment form, such as ``#/steps/0/ratio``."""
    detail: str


class ProblemDetails(BaseModel):
    """The body of every 4xx and 5xx answer, and of a rejected or failed resource's ``problem``."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(default=None, exclude_if=lambda value: value is None)


class Problem(Exception):  # noqa: N818 (it is the standard's word)
    """Something that the caller must be told; never a programming error."""

    type: ClassVar[str] = "problem"
    title: ClassVar[str] = "A problem"
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str = "",
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.headers = headers or {}
        self.extra = extra

    def details(self) -> ProblemDetails:
        """Return this problem as the body that clients read."""
        return ProblemDetails(
            type=self.type,
            title=self.title,
            status=self.status,
            detail=self.detail,
            errors=self.errors,
            **self.extra,
        )


# --- Refused: the request ---------------------------------------------------------------------


class Refused(Problem):
    """The request cannot be carried out as it stands."""

    type = "refused"
    title = "The request was refused"
    status = 400


class MalformedRequest(Refused):
    """The request could not be read at all: broken JSON, a bad header, a truncated body."""

    type = "malformed-request"
    title = "The request could not be read"
    status = 400


class Unauthenticated(Refused):
    """There is no API key, or it is unknown, expired or revoked."""

    type = "unauthenticated"
    title = "A valid API key is needed"
    status = 401


class Forbidden(Refused):
    """The key lacks the scope, or the request comes from a foreign host or origin."""

    type = "forbidden"
    title = "This is not allowed"
    status = 403


class NotFound(Refused):
    """There is no such thing here, or it belongs to somebody else."""

    type = "not-found"
    title = "Not found"
    status = 404


class MethodNotAllowed(Refused):
    """The path exists, but not with this HTTP method."""

    type = "method-not-allowed"
    title = "This HTTP method is not allowed here"
    status = 405


class NotAcceptable(Refused):
    """The representation that ``Accept`` asks for does not exist."""

    type = "not-acceptable"
    title = "No such representation"
    status = 406


class Conflict(Refused):
    """The state of the resource forbids it: a finished job cannot be cancelled, say."""

    type = "conflict"
    title = "The state of the resource forbids this"
    status = 409


class RequestInFlight(Conflict):
    """Another request with the same Idempotency-Key has not finished yet."""

    type = "request-in-flight"
    title = "The first request with this Idempotency-Key is still running"


class PreconditionFailed(Refused):
    """The request asks for a version of a protocol that is not spoken here."""

    type = "precondition-failed"
    title = "A condition of the request does not hold"
    status = 412


class TooLarge(Refused):
    """The body is larger than this deployment accepts."""

    type = "too-large"
    title = "The request body is too large"
    status = 413


class UnsupportedMedia(Refused):
    """The body has a type or format that cannot be read."""

    type = "unsupported-media-type"
    title = "This format is not supported"
    status = 415


class RangeNotSatisfiable(Refused):
    """The ``Range`` header names no part of the file."""

    type = "range-not-satisfiable"
    title = "The range lies outside the file"
    status = 416


class Invalid(Refused):
    """The request was read, but fields of it are wrong; ``errors`` says which."""

    type = "invalid"
    title = "The request has invalid fields"
    status = 422


class IdempotencyMismatch(Invalid):
    """The Idempotency-Key was used before with another body."""

    type = "idempotency-mismatch"
    title = "This Idempotency-Key was used with another request"


class NotAvailable(Invalid):
    """The request is sound, but this deployment cannot do it."""

    type = "not-available"
    title = "Not available on this deployment"


class TooManyRequests(Refused):
    """A quota of the tenant is used up for now; ``Retry-After`` says when to try again."""

    type = "too-many-requests"
    title = "A quota is used up"
    status = 429


class HeaderTooLarge(Refused):
    """A header field is larger than is accepted."""

    type = "header-too-large"
    title = "A header field is too large"
    status = 431


class ChecksumMismatch(Refused):
    """The bytes of an upload do not have the checksum that came with them; they were not kept."""

    type = "checksum-mismatch"
    title = "The bytes are damaged"
    status = 460


class Unavailable(Problem):
    """The database or the storage does not answer; nothing was changed or the retry is safe."""

    type = "unavailable"
    title = "Temporarily unavailable"
    status = 503


class InternalError(Problem):
    """A fault of ours; the log has it under the id of the request, job or upload."""

    type = "internal-error"
    title = "An internal error"
    status = 500


# --- Failed: the resource ---------------------------------------------------------------------


class Failed(Problem):
    """What only a run can find. Stored in the ``problem`` of a model, a dataset or a job."""

    type = "failed"
    title = "The run failed"
    status = 422


class InvalidModel(Failed):
    """The uploaded model is broken, hostile, or not what it claims to be."""

    type = "invalid-model"
    title = "The model cannot be used"


class InvalidDataset(Failed):
    """The uploaded dataset is broken, hostile, or not what it claims to be."""

    type = "invalid-dataset"
    title = "The dataset cannot be used"


class FetchFailed(Failed):
    """The address of a model or dataset gave no file; ``detail`` says what it answered."""

    type = "fetch-failed"
    title = "The file could not be fetched"


class DatasetMismatch(Failed):
    """The dataset's arrays do not fit the model's inputs, or the metric's needs."""

    type = "dataset-mismatch"
    title = "The dataset does not fit the model"


class MetricFailed(Failed):
    """A metric that is a graph does not fit the model's outputs, does not run, or gives no number.

    ``detail`` says what to change in it.
    """

    type = "metric-failed"
    title = "The metric cannot be computed"


class StepFailed(Failed):
    """A step of the pipeline could not be carried out on this model."""

    type = "step-failed"
    title = "A step failed"


class QualityBelowRequirement(Failed):
    """The result misses ``require.max_quality_drop``; the artifacts are kept for inspection."""

    type = "quality-below-requirement"
    title = "The result misses the required quality"


class DeliveryFailed(Failed):
    """The result cannot be written in a format that was asked for; the other artifacts are kept."""

    type = "delivery-failed"
    title = "A format could not be delivered"


class NothingChanged(Failed):
    """No step of the job changed the model; ``detail`` has the reasons, the artifacts are kept."""

    type = "nothing-changed"
    title = "No step changed anything"


class MemoryLimit(Failed):
    """The engine needed more memory than it may use."""

    type = "memory-limit"
    title = "The memory limit was passed"


class NotInspected(Failed):
    """No worker inspected the model or dataset within ``UPLOAD_PENDING_MINUTES`` of its request."""

    type = "not-inspected"
    title = "No worker inspected the upload in time"


class PendingLimit(Failed):
    """The job waited longer than its ``limits.pending_minutes``."""

    type = "pending-limit"
    title = "The job waited too long"


class RunningLimit(Failed):
    """The job ran longer than its ``limits.running_minutes``."""

    type = "running-limit"
    title = "The job ran too long"


class StorageLimit(Failed):
    """The run wrote more than its directory may hold."""

    type = "storage-limit"
    title = "The disk limit was passed"


class EngineCrashed(Failed):
    """The engine process died every time it was started."""

    type = "engine-crashed"
    title = "The engine process died"
    status = 500


def kinds(root: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Yield every kind of problem below ``root``, depth first."""
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)
