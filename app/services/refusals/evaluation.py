"""Why a result cannot be judged as a request asks."""

from collections.abc import Iterator

from app.domain.datasets import DatasetDescription
from app.domain.jobs import METRIC_GRAPH_POINTER, JobRequest
from app.domain.metric_graphs import misfits
from app.domain.metrics import Metric, foreign, readers_of, unfit
from app.domain.problems import Invalid
from app.services.inputs import Inputs, Upload
from app.services.refusals.fault import Fault


def faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield why the metric, or the output that it reads, does not suit."""
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
        reason = f"{metric.called} was rejected: {metric.rejected}"
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
            yield Fault(Invalid, METRIC_GRAPH_POINTER, f"{metric.called}, the metric: {reason}")


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
