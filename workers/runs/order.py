"""The order of a job: what its engine process is to do, as a file in its directory."""

from collections.abc import Mapping

from app.domain.datasets import ImageOptions
from app.domain.directory import Compress, InspectModel, MeasureSensitivity
from app.domain.jobs import JobRequest
from app.domain.models import ModelHints
from app.domain.sensitivity import Sensitivity
from app.domain.targets import ToolName
from app.domain.workers import Confinement
from app.store import claims, layer_times, sensitivities
from app.store.session import transaction
from workers.tools import environments
from workers.worker import Worker, threads

_SHARE = 0.8
"""The share of a job's time after which a measurement takes no further layers."""


def order(
    worker: Worker, claimed: claims.Claim, failures: Mapping[ToolName, str]
) -> Compress | MeasureSensitivity:
    """Return the order of a claimed job.

    Args:
        worker: Where the engine runs.
        claimed: The job.
        failures: What tools that were run for the job failed with, by tool.
    """
    request, dataset, judged = claimed.request, claimed.dataset, claimed.evaluate_dataset
    if request.measure is not None:
        return MeasureSensitivity(
            seed=request.seed,
            data=request.data,
            images=_images(dataset),
            threads=threads(worker.settings),
            seconds=_SHARE * claimed.seconds_left,
            layer_times=_layer_times(worker, claimed),
        )
    return Compress(
        steps=request.steps or [],
        evaluate=request.evaluate,
        require=request.require,
        deliver=request.deliver,
        tools=environments.installed(environments.base(worker.settings.worker.tools)),
        tool_failures=dict(failures),
        source=_source(worker, claimed.source),
        chart=_chart(worker, request),
        layer_times=_layer_times(worker, claimed),
        seed=request.seed,
        data=request.data,
        of_trial=claimed.of_trial,
        images=_images(dataset),
        evaluate_images=_images(judged),
        seconds=claimed.seconds_left,
        besides_seconds=claimed.besides_seconds,
        expected=claimed.expected,
        threads=threads(worker.settings),
        model_sha256=claimed.model_sha256,
        model_size_bytes=claimed.model_size_bytes,
        dataset_sha256=dataset and dataset.sha256,
        evaluate_dataset_sha256=judged and judged.sha256,
    )


def _source(worker: Worker, source: claims.ClaimedSource | None) -> InspectModel:
    """Return how an upload is opened again; no code of it runs where confinement is not whole."""
    if source is None:
        return InspectModel()
    with worker.sandboxes.lend() as sandbox:
        confinement = Confinement.model_validate(sandbox.probe())
    return InspectModel(
        hints=ModelHints.model_validate(source.hints), may_run_code=confinement.whole
    )


def _chart(worker: Worker, request: JobRequest) -> Sensitivity | None:
    """Return the chart of the model's sensitivity on the job's data, where its first step reads it.

    Later steps are given other graphs, which the chart does not hold for.
    """
    if request.samples is None or not (request.steps and request.steps[0].reads_chart):
        return None
    with transaction(worker.sessions) as session:
        row = sensitivities.latest(session, request.model, request.samples)
        return None if row is None else Sensitivity.model_validate(row.chart)


def _layer_times(worker: Worker, claimed: claims.Claim) -> dict[str, float]:
    """Return the times that earlier jobs measured on such a machine, if this job times layers."""
    request = claimed.request
    times = request.measure is not None or any(step.times_layers for step in request.steps or ())
    if worker.conditions is None or not times:
        return {}
    with transaction(worker.sessions) as session:
        return layer_times.known(session, claimed.id, worker.conditions)


def _images(dataset: claims.ClaimedDataset | None) -> ImageOptions:
    return ImageOptions.model_validate(dataset.images if dataset else {})
