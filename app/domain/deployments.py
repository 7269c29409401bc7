"""Deployment targets: the formats and the parameters of steps that jobs use by default."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from app.domain.targets import OUTPUT_FORMATS, OutputFormat, Target, how_to_add

DeploymentName = Literal[
    "cpu-x86-vnni",
    "openvino-cpu",
    "mobile-litert",
    "mobile-executorch",
    "apple-coreml",
    "mcu",
    "web",
    "cuda",
]


AnyTarget = Literal[DeploymentName, OutputFormat]
"""What ``GET /v1/targets`` lists: a deployment, or a format, which is then delivered."""


class Deployment(BaseModel):
    """What a job's ``target`` stands for; all of it is a default that the request may override."""

    model_config = ConfigDict(frozen=True)

    target: DeploymentName
    title: str
    formats: list[OutputFormat]
    """What is delivered where the request does not say."""
    quantize: dict[str, Any]
    """Parameters of ``quantize`` that the request leaves out."""
    prune: dict[str, Any] = {}
    """Parameters of ``prune`` that the request leaves out; those of ``subnet`` and ``distill`` too,
    which cut channels as well."""
    instruction_sets: list[str] = []
    """One of these must be on a worker, so that latencies are those of the target."""
    device: Literal["cpu", "cuda"] = "cpu"

    def of_method(self, method: str) -> dict[str, Any]:
        """Return the parameters of a method that the request leaves out."""
        if method == "quantize":
            return self.quantize
        return self.prune if method in _CUTS_CHANNELS else {}


_CUTS_CHANNELS = frozenset({"prune", "subnet", "distill"})

_UNSIGNED = {"activations": "uint8", "symmetric": False, "per_channel": True}
_SIGNED = {"activations": "int8", "symmetric": False, "per_channel": True}
_CENTRED = {"activations": "int8", "symmetric": True, "per_channel": True}

_SIXTEENS = {"multiple": 16}
"""Channels in sixteens.

NVIDIA's Deep Learning Performance Guide names multiples of 16 for int8 on tensor cores, of 8 for
float16. An AVX-512 register holds 16 sums of 32 bits, to which VNNI adds. There oneDNN
keeps channels in blocks of 16 ("Understanding Memory Formats"), and OpenVINO computes with it.
"""

DEPLOYMENTS: dict[str, Deployment] = {
    each.target: each
    for each in (
        Deployment(
            target="cpu-x86-vnni",
            title="Servers with x86 processors that have VNNI",
            formats=["onnx"],
            quantize=_UNSIGNED,
            prune=_SIXTEENS,
            instruction_sets=["avx512_vnni", "avx_vnni"],
        ),
        Deployment(
            target="openvino-cpu",
            title="OpenVINO on processors",
            formats=["openvino", "onnx"],
            quantize=_UNSIGNED,
            prune=_SIXTEENS,
        ),
        Deployment(
            target="mobile-litert",
            title="Phones, with LiteRT (TensorFlow Lite)",
            formats=["litert", "onnx"],
            quantize=_SIGNED,
        ),
        Deployment(
            target="mobile-executorch",
            title="Phones, with ExecuTorch",
            formats=["executorch", "onnx"],
            quantize=_SIGNED,
        ),
        Deployment(
            target="apple-coreml",
            title="Apple's devices, with Core ML",
            formats=["coreml", "onnx"],
            quantize=_CENTRED,
        ),
        Deployment(
            target="mcu",
            title="Microcontrollers",
            formats=["litert_micro", "onnx"],
            quantize=_SIGNED,
        ),
        Deployment(target="web", title="Browsers", formats=["web", "onnx"], quantize=_UNSIGNED),
        Deployment(
            target="cuda",
            title="NVIDIA's processors",
            formats=["onnx"],
            quantize=_CENTRED,
            prune=_SIXTEENS,
            device="cuda",
        ),
    )
}
"""By name, in the order of reports."""

assert set(DEPLOYMENTS) == set(get_args(DeploymentName))


def formats_of(target: AnyTarget) -> Sequence[OutputFormat]:
    """Return the formats that are delivered for a target where the request does not say."""
    deployment = DEPLOYMENTS.get(target)
    if deployment is not None:
        return deployment.formats
    return [name for name in OUTPUT_FORMATS if name == target]


def with_defaults(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's request, completed by the defaults of its target.

    The name of a format, as a target, has no more to say than that it is delivered.
    """
    target = body.get("target")
    deployment = DEPLOYMENTS.get(str(target))
    if deployment is None:
        if target not in OUTPUT_FORMATS:
            return dict(body)
        asked = body.get("deliver", [])
        formats = [*asked, target] if isinstance(asked, list) else asked
        return {**body, "target": None, "deliver": formats}
    filled = {"deliver": deployment.formats, **body}
    steps = body.get("steps")
    if isinstance(steps, list):
        filled["steps"] = [
            {**deployment.of_method(str(step.get("method"))), **step}
            if isinstance(step, dict)
            else step
            for step in steps
        ]
    return filled


def lacking(name: str, offered: Sequence[Target]) -> str | None:
    """Return why the workers cannot measure for a target; None if they can.

    Args:
        name: the target.
        offered: the formats that workers have announced; before that there is only ONNX.
    """
    deployment = DEPLOYMENTS[name]
    delivered = {target.target for target in offered} or {"onnx"}
    missing = [item for item in deployment.formats if item not in delivered]
    if missing:
        return f"No worker of this deployment delivers '{missing[0]}'.{how_to_add(missing[0])}"
    devices = [device for target in offered for device in target.devices]
    fitting = [device for device in devices if device.kind == deployment.device]
    if devices and not fitting:
        return f"No worker of this deployment has a device of the kind '{deployment.device}'."
    required = set(deployment.instruction_sets)
    if fitting and required and not any(required & set(item.instruction_sets) for item in fitting):
        return (
            f"No worker of this deployment has a processor with {' or '.join(sorted(required))}:"
            " its latencies would not be those of the target."
        )
    return None
