"""Neural-network compression as a service: any model, any method, one honest report.

from planish import Client

with Client("http://127.0.0.1:8080") as planish:
    model = planish.upload_model("model.onnx")
    job = planish.submit(model, steps=[{"method": "quantize", "mode": "dynamic"}])
    job = planish.wait(job)
    planish.download(job.artifacts[0], "smaller.onnx")
"""

from planish.client import Client
from planish.errors import (
    Conflict,
    CorruptDownload,
    Forbidden,
    Invalid,
    JobFailed,
    NotFound,
    PlanishError,
    Refused,
    Rejected,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

__all__ = [
    "Client",
    "Conflict",
    "CorruptDownload",
    "Forbidden",
    "Invalid",
    "JobFailed",
    "NotFound",
    "PlanishError",
    "Refused",
    "Rejected",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
]
