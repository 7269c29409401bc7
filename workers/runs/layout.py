"""The files of a job's directory before its engine starts: what it reads, and what is finished."""

from pathlib import Path

import structlog

from app.domain.directory import (
    DATASET,
    EVALUATE_DATASET,
    GENERATED,
    GRAPH,
    MADE_ORIGIN,
    MADE_SAMPLES,
    METRIC,
    MODEL,
    ORIGINAL,
    PRICES,
    REPORT,
    SOURCE,
    model_file,
    step_directory,
)
from app.domain.problems import NotFound, Unavailable
from app.store import claims
from workers.runs import tools
from workers.worker import Worker

log = structlog.get_logger(__name__)


def lay_out(worker: Worker, claimed: claims.Claim, root: Path) -> None:
    """Fill the engine's directory, all but the order.

    Args:
        worker: where the engine runs.
        claimed: the job.
        root: the directory.
    """
    for path, sha256 in _stored_files(claimed, root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        worker.blobs.fetch(sha256, path)
    for path, sha256 in _price_lists(claimed, root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            worker.blobs.fetch(sha256, path)
        except (NotFound, Unavailable) as error:
            log.warning("no price list", step=path.parent.name, reason=str(error))
    if claimed.made_samples is not None:
        origin = claimed.made_samples.generated
        (root / GENERATED / MADE_ORIGIN).write_text(origin.model_dump_json())
    for index, (_, finished) in enumerate(claimed.steps):
        (_step(claimed, index, root) / REPORT).write_text(finished.model_dump_json())
    tools.lay_out_files(worker.settings, claimed.request.deliver, root)


def _stored_files(claimed: claims.Claim, root: Path) -> dict[Path, str]:
    """Return the SHA-256 of each file that is in the storage, by its path."""
    files = {root / ORIGINAL: claimed.onnx_sha256, root / MODEL: claimed.graph_sha256}
    files |= {model_file(root, name): sha256 for name, sha256 in claimed.other_models.items()}
    if claimed.source is not None:
        files[root / SOURCE] = claimed.source.sha256
    if claimed.metric_sha256 is not None:
        files[root / METRIC] = claimed.metric_sha256
    if claimed.dataset is not None:
        files[root / DATASET] = claimed.dataset.sha256
    if claimed.evaluate_dataset is not None:
        files[root / EVALUATE_DATASET] = claimed.evaluate_dataset.sha256
    if claimed.made_samples is not None:
        files[root / GENERATED / MADE_SAMPLES] = claimed.made_samples.sha256
    for index, (sha256, _) in enumerate(claimed.steps):
        files[_step(claimed, index, root) / GRAPH] = sha256
    return files


def _price_lists(claimed: claims.Claim, root: Path) -> dict[Path, str]:
    """Return the SHA-256 of the price lists by their paths: a job can do without, it measures."""
    return {
        _step(claimed, index, root) / PRICES: prices.sha256
        for index, prices in claimed.price_lists.items()
        if index >= len(claimed.steps) and prices.sha256 is not None
    }


def _step(claimed: claims.Claim, index: int, root: Path) -> Path:
    return step_directory(root, index, method_of(claimed, index))


def method_of(claimed: claims.Claim, index: int) -> str:
    """Return the method of a step of a job."""
    assert claimed.request.steps, "a search is not carried out here"
    return str(claimed.request.steps[index].method)
