"""Neural-network compression as a service: any model, any method, one honest report.

import planish

planish.compress("model.onnx", data="calib.npz", max_quality_drop=0.01, output="small.onnx")

with planish.Client("http://127.0.0.1:8080") as client:
    model = client.models.upload("model.onnx")
    job = client.jobs.create(model, [{"method": "quantize", "mode": "dynamic"}])
    job.wait().download("smaller.onnx")
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planish._public import *  # noqa: F403 (its __all__ is ours)
    from planish._public import __all__ as __all__

_PUBLIC = f"{__name__}._public"


def __getattr__(name: str) -> Any:
    """Import what is asked for first: the command would have to import all of it to begin."""
    module = f"{__name__}.{name}"
    if find_spec(module):
        return import_module(module)
    found = globals()[name] = getattr(import_module(_PUBLIC), name)
    return found


def __dir__() -> list[str]:
    """List the names that are there for users."""
    names: list[str] = import_module(_PUBLIC).__all__
    return names
