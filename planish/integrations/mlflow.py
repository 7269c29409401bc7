"""MLflow: a logged model is compressed, and the result logged as its next version.

Needs ``pip install 'planish[mlflow]'``. Where MLflow is, it takes from ``MLFLOW_TRACKING_URI`` or
``mlflow.set_tracking_uri``, as always.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

from planish._arrays import Data
from planish._requests import JobOptions, Step
from planish.client import Client
from planish.compressing import Compressed
from planish.compressing import compress as compress_file
from planish.types import Measures

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_READ = (".onnx", ".keras", ".h5", ".pt2", ".safetensors")
_REGISTERED = re.compile(r"models:/([^/@]+)[/@].+")


def compress(
    model: str,
    data: Data | None = None,
    *,
    max_quality_drop: float | None = None,
    steps: Sequence[Step] | None = None,
    registered_name: str | None = None,
    client: Client | None = None,
    **options: Unpack[JobOptions],
) -> "ModelVersion":
    """Compress a logged model; log the result as a version of a registered model.

    The version's run has the figures as metrics (``size_bytes``, ``original_size_bytes``, …) and
    the report as ``report.json`` and ``report.html``. Its tags name the job, the verdict and the
    source.

    Args:
        model: the model's URI: ``models:/net/3``, ``models:/net@champion`` or ``runs:/…/model``.
        data: as in ``planish.compress``.
        max_quality_drop: as in ``planish.compress``.
        steps: as in ``planish.compress``.
        registered_name: of the model in the registry. Default: that of ``models:/…``.
        client: as in ``planish.compress``.
        options: as in ``planish.compress``.

    Returns:
        The new version.

    Raises:
        ValueError: no file of the logged model can be read by Planish, or ``registered_name`` is
            missing.
        Rejected, Invalid, JobFailed: as in ``planish.compress``; nothing is logged.
    """
    import mlflow
    import onnx

    registered_name = registered_name or _name_in(model)
    with contextlib.ExitStack() as own:
        if client is None:
            client = own.enter_context(Client())
        place = own.enter_context(TemporaryDirectory(prefix="planish-"))
        directory = Path(mlflow.artifacts.download_artifacts(artifact_uri=model, dst_path=place))
        source = mlflow.models.Model.load(str(directory))
        made = compress_file(
            _file_of(source.flavors, directory),
            data,
            max_quality_drop=max_quality_drop,
            steps=steps,
            output=Path(place) / "smaller.onnx",
            client=client,
            **options,
        )
        with mlflow.start_run(run_name=f"planish {made.job.id}"):
            mlflow.log_metrics(dict(_figures(made)))
            mlflow.log_text(json.dumps(made.report, indent=1), "report.json")
            mlflow.log_text(client.jobs.report_page(made.job), "report.html")
            logged = mlflow.onnx.log_model(
                onnx.load(made.file),
                name="model",
                registered_model_name=registered_name,
                signature=source.signature,
            )
    return _tagged(registered_name, str(logged.registered_model_version), _tags(made, model))


def _name_in(model: str) -> str:
    match = _REGISTERED.fullmatch(model)
    if match is None:
        raise ValueError(f"{model!r} is of no registered model: state registered_name=.")
    return match[1]


def _file_of(flavors: dict[str, dict[str, Any]], directory: Path) -> Path:
    """Return the one file of a logged model that the service can read."""
    if "onnx" in flavors:
        return directory / str(flavors["onnx"]["data"])
    files = [path for path in sorted(directory.rglob("*")) if path.suffix in _READ]
    if len(files) == 1:
        return files[0]
    shown = ", ".join(flavors) or "none"
    raise ValueError(
        f"The logged model has no file that Planish reads (flavors: {shown}). Log it as ONNX:"
        " mlflow.onnx.log_model; docs/formats.md says how each framework exports."
    )


def _figures(made: Compressed) -> Iterator[tuple[str, float]]:
    for prefix, measures in (("original_", made.job.baseline), ("", made.job.compressed)):
        assert measures is not None, "a job that succeeded was measured"
        for figure, value in _measured(measures).items():
            if value is not None:
                yield f"{prefix}{figure}", float(value)


def _measured(measures: Measures) -> dict[str, float | None]:
    fidelity, quality = measures.fidelity, measures.quality
    return {
        "size_bytes": measures.size_bytes,
        "parameters": measures.parameters,
        "macs": measures.macs,
        "latency_ms": measures.latency_ms,
        "quality": None if quality is None else quality.value,
        "agreement": None if fidelity is None else fidelity.agreement,
        "explained": None if fidelity is None else fidelity.explained,
    }


def _tags(made: Compressed, source: str) -> dict[str, str]:
    verdict = made.job.verdict or ""
    return {"planish.job": made.job.id, "planish.verdict": verdict, "planish.source": source}


def _tagged(name: str, version: str, tags: dict[str, str]) -> "ModelVersion":
    import mlflow

    registry = mlflow.MlflowClient()
    for tag, value in tags.items():
        registry.set_model_version_tag(name, version, tag, value)
    return registry.get_model_version(name, version)
