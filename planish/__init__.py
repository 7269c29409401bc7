"""Neural-network compression as a service: any model, any method, one honest report.

import planish

planish.compress("model.onnx", data="calib.npz", max_quality_drop=0.01, output="small.onnx")

with planish.Client("http://127.0.0.1:8080") as client:
    model = client.models.upload("model.onnx")
    job = client.jobs.create(model, [{"method": "quantize", "mode": "dynamic"}])
    job.wait().download("smaller.onnx")
"""

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
