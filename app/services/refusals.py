"""Finds why a job cannot run, as far as the descriptions of its models and datasets tell."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.domain import generated, homecoming
from app.domain.datasets import DatasetDescription, class_mismatch, mismatches
from app.domain.jobs import EVALUATE_DATASET_POINTER, METRIC_GRAPH_POINTER, JobRequest
from app.domain.metric_graphs import misfits
from app.domain.metrics import Metric, foreign, readers_of, unfit
from app.domain.models import ModelDescription, TensorSpec, quantized_operators
from app.domain.problems import DatasetMismatch, Invalid, NotAvailable, Problem
from app.domain.searches import LEARNING
from app.domain.steps import METHODS, Step
from app.domain.steps.elastic import NO_BLOCKS
from app.domain.steps.quantize import Quantize
from app.domain.targets import EXPORTED, INSTALLED_BY
from app.services.inputs import Inputs, Upload


@dataclass(frozen=True)
class Fault:
    """A reason for refusing a request, and its kind of problem."""

    kind: type[Problem]
    pointer: str
    reason: str
    index: int | None = None


def faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield every reason for which a request is refused."""
    if request.data is not None and request.dataset is not None:
        reason = "A job has a dataset, or generated data in its place: leave one of them out."
        yield Fault(Invalid, "#/data", reason)
    yield from _upload_faults(inputs)
    learns = request.objective is not None and request.objective.strategy in LEARNING
    if request.samples is None and (learns or request.measure is not None):
        what = "This strategy learns" if learns else "Sensitivity is measured"
        reason = (
            f"{what} on samples: name a dataset in 'dataset', or have samples made from the model"
            " ('data': 'generated')."
        )
        yield Fault(Invalid, "#/dataset", reason)
    yield from _strategy_faults(request, inputs)
    yield from _step_faults(request, inputs)
    yield from _evaluation_faults(request, inputs)
    yield from _delivery_faults(request, inputs)
    for place, target in enumerate(request.deliver):
        if target not in inputs.targets:
            available = ", ".join(sorted(inputs.targets))
            command = INSTALLED_BY.get(target)
            mend = f" Where a worker runs, '{command}' adds it." if command else ""
            reason = (
                f"No worker of this deployment delivers '{target}'; it delivers: {available}.{mend}"
            )
            yield Fault(NotAvailable, f"#/deliver/{place}", reason)


def _strategy_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield why no supernet can be made of a model."""
    model = inputs.model.description
    if request.objective is None or request.objective.strategy != "once_for_all" or model is None:
        return
    pointer = "#/objective/strategy"
    if model.blocks == 0:
        yield Fault(Invalid, pointer, f"'once_for_all': {NO_BLOCKS}: use 'guided'.")
    if (obstacle := _obstacle(model)) is not None:
        yield Fault(Invalid, pointer, f"'once_for_all' trains, and the model cannot be: {obstacle}")


def _delivery_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield why the target, or a format, cannot be delivered."""
    if request.steps == [] and set(request.deliver) <= {"onnx"}:
        reason = (
            "There is nothing to do: name a step, or another format than 'onnx' in 'deliver' to"
            " have the model as it is."
        )
        yield Fault(Invalid, "#/steps", reason)
    if inputs.target_fault is not None:
        kind, reason = inputs.target_fault
        yield Fault(kind, "#/target", reason)
    exported = [name for name in request.deliver if name in EXPORTED]
    if exported and request.objective is not None and request.objective.strategy == "haq":
        reason = (
            f"'haq' learns in how many bits weights are stored for onnxruntime, and '{exported[0]}'"
            " has no kernels for that: use strategy 'guided', or deliver 'onnx'."
        )
        yield Fault(Invalid, "#/objective/strategy", reason)
    for index, step in enumerate(request.steps or ()):
        if exported and isinstance(step, Quantize) and step.onnx_alone:
            reason = (
                f"'{exported[0]}' has no kernels for what mode '{step.mode}' writes: use mode"
                " 'static', or deliver 'onnx'."
            )
            yield Fault(Invalid, f"#/steps/{index}/mode", reason, index)
    if "source" in request.deliver:
        yield from _source_faults(request, inputs)


def _source_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Say why a result has no framework to go back to."""
    pointer = f"#/deliver/{request.deliver.index('source')}"
    steps = request.steps or []
    _, first = homecoming.home_of(steps)
    model = inputs.other_models.get(f"#/steps/{first - 1}/student/model", inputs.model)
    if model.description is not None and model.description.format == "onnx":
        reason = (
            f"Model {model.id} was uploaded as ONNX, so that 'source' would be the same as 'onnx':"
            " deliver that, or upload the file of Keras or PyTorch."
        )
        yield Fault(Invalid, pointer, reason)
    for index, why in homecoming.obstacles(steps):
        reason = (
            f"'source' gives back the weights of the upload's own layers, and step {index + 1}"
            f" leaves none: {why}. Leave out one of them."
        )
        yield Fault(Invalid, pointer, reason, index)


def _upload_faults(inputs: Inputs) -> Iterator[Fault]:
    model = inputs.model
    if model.rejected:
        yield Fault(Invalid, "#/model", f"The model was rejected: {model.rejected}")
    for pointer, dataset in inputs.datasets.items():
        if dataset.rejected:
            yield Fault(Invalid, pointer, f"The dataset was rejected: {dataset.rejected}")
        if model.description and dataset.description:
            for reason in mismatches(dataset.description, model.description.inputs):
                yield Fault(DatasetMismatch, pointer, reason)
    yield from _judging_faults(inputs)


def _judging_faults(inputs: Inputs) -> Iterator[Fault]:
    """Yield why the dataset for the evaluation does not go with the job's dataset."""
    dataset, judged = inputs.dataset, inputs.evaluate_dataset
    if dataset is None or judged is None:
        return
    if dataset.sha256 == judged.sha256:
        reason = (
            "The dataset to judge on is the job's own, which trains and calibrates: name another"
            " with samples that are not in it, or leave it out to hold a part of the job's out."
        )
        yield Fault(Invalid, EVALUATE_DATASET_POINTER, reason)
    elif dataset.description and judged.description:
        unlike = class_mismatch(judged.description, dataset.description)
        if unlike is not None:
            yield Fault(DatasetMismatch, EVALUATE_DATASET_POINTER, unlike)


def _step_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
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
        if step.needs.trainable and (obstacle := _obstacle(inputs.model.description)) is not None:
            reason = f"Step {index + 1} ({step.method}) trains, and the model cannot be: {obstacle}"
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
        return f"Model {other.id} was rejected: {other.rejected}"
    if other.description is None or model.description is None:
        return f"Model {other.id} and the job's must be inspected first: wait until both are ready."
    for side in ("inputs", "outputs"):
        actual, expected = (
            [_spoken(tensor) for tensor in getattr(upload.description, side)]
            for upload in (other, model)
        )
        if actual != expected:
            return (
                f"Model {other.id} has other {side} than the job's: {', '.join(actual)[:500]}, not"
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
        needed = "a dataset with targets" if step.needs.data == "targets" else "a dataset"
        return (
            f"{needed}: name one in 'dataset', have samples made from the model ('data':"
            " 'generated'), or choose what needs no data."
        )
    if step.needs.data == "targets" and dataset.description and not dataset.description.targets:
        return "a dataset with targets, and this one has none: learn from the 'teacher' instead."
    return None


def _obstacle(model: ModelDescription | None) -> str | None:
    """Return why a model cannot be trained; None if no reason is known."""
    if model is None or model.trainable is not False:
        return None
    named = [f"'{skipped.node}': {skipped.reason}" for skipped in model.untrainable[:3]]
    if already := quantized_operators(model.operators):
        named.append(
            f"it is quantized already (it holds {', '.join(already[:5])}): upload it as it was"
            " before that"
        )
    return f"{'; '.join(named)}. Leave 'recover' out, or choose a method that needs no training."


def _evaluation_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    evaluate = request.evaluate
    metric = evaluate.named_metric
    if metric is not None and (reason := _unmeasured(metric, inputs.judged)) is not None:
        yield Fault(Invalid, "#/evaluate/metric", reason)
    if evaluate.metric_graph is not None:
        yield from _metric_faults(inputs)
    elif not evaluate.higher_is_better:
        reason = (
            "Which way is better is known of a metric with a name: leave 'higher_is_better' out, or"
            " name a model that computes the metric."
        )
        yield Fault(Invalid, "#/evaluate/higher_is_better", reason)
    for name in foreign(metric, evaluate.parameters):
        readers = " and ".join(f"'{metric}'" for metric in readers_of(name))
        reason = f"'{name}' belongs to the metric {readers}: name that one, or leave '{name}' out."
        yield Fault(Invalid, f"#/evaluate/{name}", reason)
    if evaluate.output is not None and inputs.model.description is not None:
        names = [tensor.name for tensor in inputs.model.description.outputs]
        if evaluate.output not in names:
            reason = (
                f"The model has no output '{evaluate.output}'; it has: {', '.join(names[:20])}."
            )
            yield Fault(Invalid, "#/evaluate/output", reason)


def _metric_faults(inputs: Inputs) -> Iterator[Fault]:
    """Yield why a graph cannot compute the job's metric, as far as is known."""
    metric, model, judged = inputs.other_models[METRIC_GRAPH_POINTER], inputs.model, inputs.judged
    if metric.rejected:
        reason = f"Model {metric.id} was rejected: {metric.rejected}"
        yield Fault(Invalid, METRIC_GRAPH_POINTER, reason)
    if judged is None:
        reason = "A metric needs a dataset: name one in 'dataset' or 'evaluate.dataset'."
        yield Fault(Invalid, "#/evaluate/metric", reason)
    elif metric.description and model.description and judged.description:
        for reason in misfits(
            metric.description.inputs,
            metric.description.outputs,
            model.description.outputs,
            judged.description.targets,
        ):
            yield Fault(Invalid, METRIC_GRAPH_POINTER, f"The metric {metric.id}: {reason}")


def _unmeasured(metric: Metric, dataset: Upload[DatasetDescription] | None) -> str | None:
    """Return why a metric does not suit a dataset; None if it does, as far as is known."""
    if dataset is None:
        return f"The metric '{metric}' needs a dataset with targets: name one, or no metric."
    if dataset.description is None:
        return None
    targets = dataset.description.targets
    if targets is None:
        return (
            f"The metric '{metric}' needs targets, and the dataset has none: leave the metric out"
            " to compare with the original model alone."
        )
    return unfit(metric, targets.dtype, targets.shape)
