"""What users import, all of it from ``planish`` itself."""

from planish._async import AsyncClient
from planish.client import Client
from planish.compressing import Compressed, compress
from planish.errors import (
    Conflict,
    CorruptDownload,
    ExportFailed,
    Forbidden,
    Invalid,
    InvalidSignature,
    JobFailed,
    Misnamed,
    MissingPackage,
    NotFound,
    PlanishError,
    Refused,
    Rejected,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from planish.exporting import from_keras, from_sklearn, from_tensorflow, from_torch
from planish.narrowing import narrow

__all__ = [
    "AsyncClient",
    "Client",
    "Compressed",
    "Conflict",
    "CorruptDownload",
    "ExportFailed",
    "Forbidden",
    "Invalid",
    "InvalidSignature",
    "JobFailed",
    "Misnamed",
    "MissingPackage",
    "NotFound",
    "PlanishError",
    "Refused",
    "Rejected",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "compress",
    "from_keras",
    "from_sklearn",
    "from_tensorflow",
    "from_torch",
    "narrow",
]
