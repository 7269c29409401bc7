"""Everything that this client raises.

PlanishError
├── Unreachable            no answer, although it was asked again and again
├── MissingPackage         a framework that an export needs is not installed
├── ExportFailed           a model of yours cannot be exported
├── Misnamed               a file's name promises another format than it would hold
├── CorruptDownload        the bytes are not those that the service announced
├── InvalidSignature       a webhook's message was not sent by the service
├── Refused                the service said no: an RFC 9457 problem
│   ├── Unauthenticated    401   ├── Conflict         409
│   ├── Forbidden          403   ├── Invalid          422
│   ├── NotFound           404   └── TooManyRequests  429
│   └── Unavailable        503
├── Rejected               an uploaded model or dataset cannot be used
└── JobFailed              the job failed, or was cancelled
"""

from planish.types import FieldError, Job, Problem


class PlanishError(Exception):
    """The root of all errors here."""


class Unreachable(PlanishError):  # noqa: N818 (the tree reads as sentences)
    """The service did not answer."""


class MissingPackage(PlanishError, ImportError):  # noqa: N818
    """A package that an export needs is not installed here; the message has the command."""


class ExportFailed(PlanishError):  # noqa: N818
    """A framework cannot export the model; the message says what it stumbled over."""


class Misnamed(PlanishError):  # noqa: N818
    """A file would have the name of another format; the message says which name would do."""


class CorruptDownload(PlanishError):  # noqa: N818
    """The downloaded bytes have another SHA-256 than was announced; nothing was kept."""


class InvalidSignature(PlanishError):  # noqa: N818
    """A message has no signature of this secret: it was not sent by the service, or was changed."""


class Refused(PlanishError):  # noqa: N818
    """The service refused a request; ``problem`` says why and what to do instead."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(_in_words(problem))
        self.problem = problem

    @property
    def errors(self) -> list[FieldError]:
        """The faulty fields of the request, if that is what was wrong."""
        return self.problem.errors or []


class Unauthenticated(Refused):
    """There is no valid API key: pass ``key``, or set ``PLANISH_API_KEY``."""


class Forbidden(Refused):
    """The key lacks the scope."""


class NotFound(Refused):
    """There is no such thing, or it belongs to somebody else."""


class Conflict(Refused):
    """The state of the resource forbids it."""


class Invalid(Refused):
    """Fields of the request are wrong; ``errors`` says which."""


class TooManyRequests(Refused):
    """A quota is used up."""


class Unavailable(Refused):
    """The service answers, but cannot work at the moment."""


class Rejected(PlanishError):  # noqa: N818
    """The uploaded file was inspected and cannot be used; ``problem`` says why."""

    def __init__(self, problem: Problem, upload: str) -> None:
        """Say why an upload is rejected.

        Args:
            problem: what is wrong.
            upload: its id, or its name where it is deleted.
        """
        super().__init__(f"{_in_words(problem)} ({upload})")
        self.problem = problem


class JobFailed(PlanishError):  # noqa: N818
    """The job ended without a result that keeps its promises; its artifacts may still be there."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            f"{_in_words(job.problem)} ({job.id})" if job.problem else f"{job.id} was {job.status}"
        )
        self.job = job

    @property
    def problem(self) -> Problem | None:
        """Why it failed; None where it was cancelled."""
        return self.job.problem


def refusal(problem: Problem) -> Refused:
    """Return the error for a problem that the service answered with."""
    return _BY_STATUS.get(problem.status, Refused)(problem)


def _in_words(problem: Problem) -> str:
    errors = problem.errors or []
    if len(errors) == 1 and errors[0].detail in problem.detail:
        errors = []  # it is said already
    fields = "".join(f"\n  {error.pointer}: {error.detail}" for error in errors)
    return f"{problem.title}: {problem.detail}{fields}"


_BY_STATUS: dict[int, type[Refused]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: TooManyRequests,
    503: Unavailable,
}
