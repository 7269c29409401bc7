# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""``client.models``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from planish._requests import id_of, is_address
from planish._sync.download import download
from planish._sync.http import Transport
from planish._sync.uploads import Uploads
from planish.types import Dataset, Job, Model, Recommendation


class Models(Uploads[Model]):
    """The uploaded models; called, it yields all of them."""

    def __init__(self, http: Transport) -> None:
        super().__init__(http, "/v1/models", Model)

    def upload(
        self,
        file: str | Path,
        *,
        name: str | None = None,
        architecture: str | None = None,
        inputs: Sequence[Mapping[str, Any]] | None = None,
        cache: bool = False,
        wait: bool = True,
    ) -> Model:
        """Upload an ONNX, Keras or PyTorch file, or a zip (``docs/formats.md`` lists all).

        Args:
            file: the model; or an address, as in ``from_url``.
            name: for people.
            architecture: of a file of weights, such as ``timm/mobilenetv3_small_100``.
            inputs: what the file does not tell of its inputs:
                ``[{"name": "image", "dtype": "float32", "shape": ["batch", 3, 224, 224]}]``.
            cache: of a decoder: whether the keys and values of earlier tokens are inputs and
                outputs.
            wait: return when the model has been inspected; else at once.

        Raises:
            Rejected: the model cannot be used.
        """
        if is_address(file):
            return self.from_url(
                str(file),
                name=name,
                architecture=architecture,
                inputs=inputs,
                cache=cache,
                wait=wait,
            )
        told = {"name": name, "architecture": architecture}
        told["inputs"] = None if inputs is None else json.dumps([dict(each) for each in inputs])
        told["cache"] = "true" if cache else None
        return self._send(Path(file), wait=wait, **told)

    def from_url(
        self,
        url: str,
        *,
        sha256: str | None = None,
        name: str | None = None,
        filename: str | None = None,
        architecture: str | None = None,
        inputs: Sequence[Mapping[str, Any]] | None = None,
        cache: bool = False,
        wait: bool = True,
    ) -> Model:
        """Have the service fetch a model, so that its bytes do not pass here.

        Args:
            url: ``https://…`` or ``s3://bucket/key``, where the service may fetch from.
            sha256: what the bytes must have.
            name: for people.
            filename: of the file. Default: the last part of the address.
            architecture: as in ``upload``.
            inputs: as in ``upload``.
            cache: as in ``upload``.
            wait: return when the model has been fetched and inspected; else at once.

        Raises:
            Invalid: the service does not fetch from there.
            Rejected: there is no such file, its bytes are others, or it cannot be used.
        """
        said = None if inputs is None else [dict(each) for each in inputs]
        body = {"url": url, "sha256": sha256, "name": name, "filename": filename}
        told = {"architecture": architecture, "inputs": said, "cache": cache or None}
        return self._refer(wait=wait, **body, **told)

    def download(
        self, model: Model | str, to: str | Path, *, form: Literal["upload", "onnx"] = "upload"
    ) -> Path:
        """Download the uploaded bytes, or the self-contained graph (``onnx``).

        Raises:
            CorruptDownload: the bytes are not those that were announced.
        """
        known = self.get(model)
        path = f"/v1/models/{known.id}/content"
        sha256 = known.sha256 if form == "upload" else None
        return download(self._http, path, to, sha256=sha256, form=form)

    def recommendations(
        self,
        model: Model | str,
        *,
        minimize: Literal["latency", "size", "macs"] = "latency",
        max_quality_drop: float | None = None,
        target: str | None = None,
        data: Dataset | str | None = None,
    ) -> list[Recommendation]:
        """Return jobs that may suit a model, the best first; nothing runs.

        ``client.jobs.create(**found[0].job)`` does what the first one says.

        Args:
            model: or its id.
            minimize: what is to become less.
            max_quality_drop: what a job's result may lose.
            target: where the model is to run.
            data: a dataset, or its id. Default: what needs no data.
        """
        items = self._http.items(
            f"/v1/models/{id_of(model)}/recommendations",
            minimize=minimize,
            max_quality_drop=None if max_quality_drop is None else str(max_quality_drop),
            target=target,
            data=None if data is None else id_of(data),
        )
        return [Recommendation.model_validate(item) for item in items]

    def measure_sensitivity(self, model: Model | str, dataset: Dataset | str) -> Job:
        """Queue a job that measures what each layer of a model loses and saves in each form.

        ``client.jobs.wait(job)`` waits for it; ``sensitivity`` then has the chart.

        Args:
            model: or its id.
            dataset: or its id; ``"generated"`` for samples that are made from the model.
        """
        path = f"/v1/models/{id_of(model)}/sensitivity"
        name = "data" if dataset == "generated" else "dataset"
        return self._http.post(path, Job, {name: id_of(dataset)})

    def sensitivity(
        self, model: Model | str, *, data: Dataset | str | None = None
    ) -> dict[str, Any]:
        """Return the chart of a model's layers and forms: the latest, or that on ``data``.

        Raises:
            NotFound: it was not measured.
        """
        path = f"/v1/models/{id_of(model)}/sensitivity"
        wanted = {"data": None if data is None else id_of(data)}
        response = self._http.request("GET", path, params=wanted)
        chart: dict[str, Any] = response.json()
        return chart

    def prices(self, model: Model | str) -> list[dict[str, Any]]:
        """Return what the latest jobs measured of a model, by which their steps chose.

        Each has ``job``, ``step``, ``parameters``, ``submitted_at``, the ``choices`` (graphs with
        bytes, speed and loss) and the prices of ``layers``.
        """
        response = self._http.request("GET", f"/v1/models/{id_of(model)}/prices")
        steps: list[dict[str, Any]] = response.json()["steps"]
        return steps
