"""Why steps cannot run: their order, their data, what they train, the models that they name."""

from collections.abc import Iterator

from app.domain import generated
from app.domain.datasets import DatasetDescription
from app.domain.jobs import JobRequest
from app.domain.models import ModelDescription, TensorSpec
from app.domain.problems import Invalid
from app.domain.steps import METHODS, Step
from app.services.inputs import Inputs, Upload
from app.services.refusals.fault import Fault, obstacle


def faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield why a step cannot run, or not after those before it."""
    steps = request.steps or []
    provided: dict[str, int] = {}
    for index, step in enumerate(steps):
        pointer = f"#/steps/{index}"
        for trait in step.refuses:
            if trait in provided:
                earlier = provided[trait]
                swapped = not set(step.traits) & set(steps[earlier].refuses)
                advice = f"put it before step {earlier + 1}" if swapped else "leave one of them out"
                reason = (
                    f"Step {index + 1} ({step.method}) cannot follow step {earlier + 1},"
                    f" whose result is {trait}: {advice}."
                )
                yield Fault(Invalid, pointer, reason, index)
        for trait in set(step.follows) - set(provided):
            makers = " or ".join(f"'{name}'" for name in _providers_of(trait))
            reason = (
                f"Step {index + 1} ({step.method}) works on what {makers} makes: add it before."
            )
            yield Fault(Invalid, pointer, reason, index)
        if (missing := _missing_data(step, request, inputs.dataset)) is not None:
            reason = f"Step {index + 1} ({step.method}) needs {missing}"
            yield Fault(Invalid, pointer, reason, index)
        if step.needs.trainable and (why := obstacle(inputs.model.description)) is not None:
            reason = f"Step {index + 1} ({step.method}) trains, and the model cannot be: {why}"
            yield Fault(Invalid, pointer, reason, index)
        for place in step.other_models:
            named = f"{pointer}/{place}"
            if named in inputs.other_models:
                unlike = _unlike(inputs.other_models[named], inputs.model)
                if unlike is not None:
                    yield Fault(Invalid, named, unlike, index)
        provided |= dict.fromkeys(step.traits, index)


def _providers_of(trait: str) -> list[str]:
    """Return the methods that provide a trait."""
    return [str(each.model_fields["method"].default) for each in METHODS if trait in each.provides]


def _unlike(other: Upload[ModelDescription], model: Upload[ModelDescription]) -> str | None:
    """Return why another model does not go with the job's model, None if it does."""
    if other.rejected:
        return f"{other.called} was rejected: {other.rejected}"
    if other.description is None or model.description is None:
        return f"{other.called} and the job's must be inspected first: wait until both are ready."
    for side in ("inputs", "outputs"):
        actual, expected = (
            [_spoken(tensor) for tensor in getattr(upload.description, side)]
            for upload in (other, model)
        )
        if actual != expected:
            return (
                f"{other.called} has other {side} than the job's: {', '.join(actual)[:500]}, not"
                f" {', '.join(expected)[:500]}."
            )
    return None


def _spoken(tensor: TensorSpec) -> str:
    """Return an input or output in words, without names of dynamic dimensions."""
    sizes = ", ".join(str(size) if isinstance(size, int) else "?" for size in tensor.shape)
    return f"{tensor.name} {tensor.dtype} [{sizes}]"


def _missing_data(
    step: Step, request: JobRequest, dataset: Upload[DatasetDescription] | None
) -> str | None:
    if step.needs.data == "none":
        return None
    if dataset is None and request.data is not None:
        return generated.LABELS_MISSING if step.needs.data == "targets" else None
    if dataset is None:
        if step.needs.data == "targets":
            return "a dataset with targets: choose one in 'dataset', or choose what needs no data."
        return (
            "a dataset: choose one in 'dataset', have it made ('data': 'generated'), or choose what"
            " needs no data."
        )
    if step.needs.data == "targets" and dataset.description and not dataset.description.targets:
        return "a dataset with targets, and this one has none: learn from the 'teacher' instead."
    return None
