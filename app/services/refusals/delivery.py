"""Why the target, or a format, cannot be delivered, or nobody told."""

from collections.abc import Iterator

from app.domain import homecoming
from app.domain.deployments import DEPLOYMENTS
from app.domain.jobs import JobRequest
from app.domain.layer_forms import not_holding
from app.domain.problems import Invalid, NotAvailable
from app.domain.steps.quantize import Quantize
from app.domain.targets import how_to_add
from app.services.inputs import Inputs
from app.services.refusals.fault import Fault


def faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield why the target, or a format, cannot be delivered, or nobody told."""
    if inputs.webhook_fault is not None:
        yield Fault(Invalid, "#/webhook/url", inputs.webhook_fault)
    if request.steps == [] and set(request.deliver) <= {"onnx"}:
        reason = (
            "There is nothing to do: name a step, or another format than 'onnx' in 'deliver' to"
            " have the model as it is."
        )
        yield Fault(Invalid, "#/steps", reason)
    if inputs.target_fault is not None:
        kind, reason = inputs.target_fault
        yield Fault(kind, "#/target", reason)
    yield from _form_faults(request)
    if "source" in request.deliver:
        yield from _source_faults(request, inputs)
    yield from _format_faults(request, inputs)


def _form_faults(request: JobRequest) -> Iterator[Fault]:
    """Yield what is asked for of layers that a format does not hold; 'source' has its own words."""
    lacking = [name for name in request.deliver if name != "source"]
    if request.objective is not None and request.objective.strategy == "haq":
        for name in not_holding("stored", lacking)[:1]:
            reason = (
                f"'haq' learns in how many bits weights are stored, and '{name}' has floats for"
                " them: use strategy 'guided', or deliver 'onnx'."
            )
            yield Fault(Invalid, "#/objective/strategy", reason)
    for index, step in enumerate(request.steps or ()):
        if isinstance(step, Quantize) and step.layer_form is not None:
            for name in not_holding(step.layer_form, lacking)[:1]:
                reason = (
                    f"'{name}' has no kernels for what mode '{step.mode}' writes: use mode"
                    " 'static', or deliver 'onnx'."
                )
                yield Fault(Invalid, f"#/steps/{index}/mode", reason, index)


def _format_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield which formats no worker delivers, but for those of a target that was refused."""
    refused = DEPLOYMENTS.get(request.target or "") if inputs.target_fault else None
    told = refused.formats if refused else []
    for place, target in enumerate(request.deliver):
        if target not in inputs.targets and target not in told:
            available = ", ".join(sorted(inputs.targets))
            reason = (
                f"No worker of this deployment delivers '{target}'; it delivers: {available}."
                f"{how_to_add(target)}"
            )
            yield Fault(NotAvailable, f"#/deliver/{place}", reason)


def _source_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Say why a result has no framework to go back to."""
    pointer = f"#/deliver/{request.deliver.index('source')}"
    steps = request.steps or []
    _, first = homecoming.home_of(steps)
    student = inputs.other_models.get(f"#/steps/{first - 1}/student/model")
    model = student or inputs.model
    if model.description is not None and model.description.format == "onnx":
        reason = (
            f"{student.called if student else 'The model'} was uploaded as ONNX, so that 'source'"
            " would be the same as 'onnx': deliver that, or upload the file of Keras or PyTorch."
        )
        yield Fault(Invalid, pointer, reason)
    for index, why in homecoming.obstacles(steps):
        reason = (
            f"'source' gives back the weights of the upload's own layers, and step {index + 1}"
            f" leaves none: {why}. Leave out one of them."
        )
        yield Fault(Invalid, pointer, reason, index)
