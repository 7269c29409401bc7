"""What people want, as steps: where to begin when no method is known."""

from dataclasses import dataclass
from typing import Any

from app.domain.deployments import DeploymentName


@dataclass(frozen=True)
class Goal:
    """A wish in words, and the request that it begins with."""

    name: str
    title: str
    description: str
    steps: list[dict[str, Any]]
    max_quality_drop: float | None = None
    target: DeploymentName | None = None


GOALS = [
    Goal(
        "smaller",
        "A smaller file",
        "Weights in eight bits; about a quarter of the size, at the same speed. Needs no data.",
        [{"method": "quantize", "mode": "weight_only", "unpack": "load"}],
    ),
    Goal(
        "faster",
        "A faster model",
        "Weights and activations in eight bits, calibrated on your data.",
        [{"method": "quantize", "mode": "static"}],
    ),
    Goal(
        "both",
        "Smaller and faster, at most one point lost",
        "Each layer in the form that is measured to pay; never slower, never larger.",
        [{"method": "quantize"}],
        max_quality_drop=0.01,
    ),
    Goal(
        "half",
        "Half of the work",
        "Channels that matter least are cut, then the model is trained on your data.",
        [{"method": "prune", "ratio": 0.5, "recover": {"epochs": 10}}],
    ),
    Goal(
        "phone",
        "For a phone",
        "Weights and activations in eight bits, as a LiteRT file for phones, beside the ONNX file.",
        [{"method": "quantize", "mode": "static"}],
        max_quality_drop=0.01,
        target="mobile-litert",
    ),
]
