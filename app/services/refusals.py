"""Why a job cannot be carried out, as far as the descriptions of what it names tell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.domain.datasets import DatasetDescription, class_mismatch, mismatches
from app.domain.jobs import EVALUATE_DATASET_POINTER, METRIC_GRAPH_POINTER, DeviceKind, JobRequest
from app.domain.metric_graphs import misfits
from app.domain.metrics import Metric, foreign, readers_of, unfit
from app.domain.models import ModelDescription, TensorSpec
from app.domain.problems import DatasetMismatch, Invalid, NotAvailable, Problem
from app.domain.steps import Step
from app.domain.steps.quantize import Quantize
from app.domain.targets import EXPORTED, INSTALLED_BY

_ONNX_ALONE = frozenset({"dynamic", "weight_only"})
"""Modes of ``quantize`` whose operators other runtimes do not have."""

Description = TypeVar("Description", ModelDescription, DatasetDescription)


@dataclass(frozen=True)
class Upload(Generic[Description]):
    """What is known of a model or dataset at this moment."""

    id: str
    sha256: str
    size_bytes: int
    rejected: str | None
    """Why inspection rejected it."""
    description: Description | None
    """None until it is inspected."""


@dataclass(frozen=True)
class Inputs:
    """What a request names, and what the deployment can do."""

    model: Upload[ModelDescription]
    dataset: Upload[DatasetDescription] | None
    evaluate_dataset: Upload[DatasetDescription] | None
    """What the result is judged on, where the request names a dataset for that."""
    targets: frozenset[str]
    """Output formats that a worker announced."""
    target_lacking: str | None = None
    """Why the deployment cannot measure for the job's ``target``."""
    workers: Sequence[tuple[DeviceKind, Sequence[str]]] = ()
    """The kind of device and the labels of each worker that takes jobs."""
    others: Mapping[str, Upload[ModelDescription]] = field(default_factory=dict)
    """The models that the request names besides the job's, by the pointer to where."""

    @property
    def datasets(self) -> dict[str, Upload[DatasetDescription]]:
        """The datasets that the request names, by the pointer to where."""
        named = {"#/dataset": self.dataset, EVALUATE_DATASET_POINTER: self.evaluate_dataset}
        return {pointer: upload for pointer, upload in named.items() if upload is not None}

    @property
    def judged(self) -> Upload[DatasetDescription] | None:
        """The dataset whose samples, or a part of them, the result is judged on."""
        return self.evaluate_dataset or self.dataset


@dataclass(frozen=True)
class Fault:
    """A refusal, and the kind of problem that it is."""

    kind: type[Problem]
    pointer: str
    reason: str
    index: int | None = None


def faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield every reason for which a request is refused."""
    if request.objective is not None:
        reason = "This deployment does not search for steps yet: name them in 'steps'."
        yield Fault(NotAvailable, "#/objective", reason)
    yield from _upload_faults(inputs)
    yield from _step_faults(request.steps or [], inputs)
    yield from _evaluation_faults(request, inputs)
    yield from _delivery_faults(request, inputs)
    for place, target in enumerate(request.deliver):
        if target not in inputs.targets:
            known = ", ".join(sorted(inputs.targets))
            command = INSTALLED_BY.get(target)
            mend = f" Where a worker runs, '{command}' adds it." if command else ""
            reason = (
                f"No worker of this deployment delivers '{target}'; it delivers: {known}.{mend}"
            )
            yield Fault(NotAvailable, f"#/deliver/{place}", reason)


def _delivery_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Say what the target, or a format, cannot do."""
    if inputs.target_lacking is not None:
        yield Fault(NotAvailable, "#/target", inputs.target_lacking)
    exported = [name for name in request.deliver if name in EXPORTED]
    for index, step in enumerate(request.steps or ()):
        if exported and isinstance(step, Quantize) and step.mode in _ONNX_ALONE:
            reason = (
                f"'{exported[0]}' has no kernels for what mode '{step.mode}' writes: use mode"
                " 'static', or deliver 'onnx'."
            )
            yield Fault(Invalid, f"#/steps/{index}/mode", reason, index)


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
    """Say why the dataset to judge on cannot stand beside the job's."""
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


def _step_faults(steps: Sequence[Step], inputs: Inputs) -> Iterator[Fault]:
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
        if (missing := _missing_data(step, inputs.dataset)) is not None:
            reason = f"Step {index + 1} ({step.method}) needs {missing}"
            yield Fault(Invalid, pointer, reason, index)
        if step.needs.trainable and (obstacle := _obstacle(inputs.model.description)) is not None:
            reason = f"Step {index + 1} ({step.method}) trains, and the model cannot be: {obstacle}"
            yield Fault(Invalid, pointer, reason, index)
        for place in step.other_models:
            named = f"{pointer}/{place}"
            if named in inputs.others:
                unlike = _unlike(inputs.others[named], inputs.model)
                if unlike is not None:
                    yield Fault(Invalid, named, unlike, index)
        provided |= dict.fromkeys(step.traits, index)


def _unlike(other: Upload[ModelDescription], model: Upload[ModelDescription]) -> str | None:
    """Return why another model cannot stand beside the job's, None if it can."""
    if other.rejected:
        return f"Model {other.id} was rejected: {other.rejected}"
    if other.description is None or model.description is None:
        return f"Model {other.id} and the job's must be inspected first: wait until both are ready."
    for what in ("inputs", "outputs"):
        theirs, ours = (
            [_spoken(tensor) for tensor in getattr(each.description, what)]
            for each in (other, model)
        )
        if theirs != ours:
            return (
                f"Model {other.id} has other {what} than the job's: {', '.join(theirs)[:500]}, not"
                f" {', '.join(ours)[:500]}."
            )
    return None


def _spoken(tensor: TensorSpec) -> str:
    """Return an input or output in words in which dynamic dimensions have no names."""
    sizes = ", ".join(str(size) if isinstance(size, int) else "?" for size in tensor.shape)
    return f"{tensor.name} {tensor.dtype} [{sizes}]"


def _missing_data(step: Step, dataset: Upload[DatasetDescription] | None) -> str | None:
    if step.needs.data == "none":
        return None
    if dataset is None:
        what = "a dataset with targets" if step.needs.data == "targets" else "a dataset"
        return f"{what}: name one in 'dataset', or choose what needs no data."
    if step.needs.data == "targets" and dataset.description and not dataset.description.targets:
        return "a dataset with targets, and this one has none: learn from the 'teacher' instead."
    return None


def _obstacle(model: ModelDescription | None) -> str | None:
    """Return what stands in the way of training; None where nothing is known to."""
    if model is None or model.trainable is not False:
        return None
    named = [f"'{each.node}': {each.reason}" for each in model.untrainable[:3]]
    return f"{'; '.join(named)}. Leave 'recover' out, or choose a method that needs no training."


def _evaluation_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    wish = request.evaluate
    metric = wish.named_metric
    if metric is not None and (reason := _unmeasured(metric, inputs.judged)) is not None:
        yield Fault(Invalid, "#/evaluate/metric", reason)
    if wish.metric_graph is not None:
        yield from _metric_faults(inputs)
    elif not wish.higher_is_better:
        reason = (
            "Which way is better is known of a metric with a name: leave 'higher_is_better' out, or"
            " name a model that computes the metric."
        )
        yield Fault(Invalid, "#/evaluate/higher_is_better", reason)
    for name in foreign(metric, wish.parameters):
        readers = " and ".join(f"'{metric}'" for metric in readers_of(name))
        reason = f"'{name}' belongs to the metric {readers}: name that one, or leave '{name}' out."
        yield Fault(Invalid, f"#/evaluate/{name}", reason)
    if wish.output is not None and inputs.model.description is not None:
        names = [tensor.name for tensor in inputs.model.description.outputs]
        if wish.output not in names:
            reason = f"The model has no output '{wish.output}'; it has: {', '.join(names[:20])}."
            yield Fault(Invalid, "#/evaluate/output", reason)


def _metric_faults(inputs: Inputs) -> Iterator[Fault]:
    """Say why a graph cannot compute the job's metric, as far as is known of what it reads."""
    metric, model, judged = inputs.others[METRIC_GRAPH_POINTER], inputs.model, inputs.judged
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
    """Return why a metric cannot be counted on a dataset; None where it can, as far as is known."""
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
