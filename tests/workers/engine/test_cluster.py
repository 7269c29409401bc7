"""A job whose weights share a few values."""

from pathlib import Path

from tests.workers.engine.conftest import Run, report_of


def test_a_job_leaves_a_file_a_fraction_as_large(
    exported: dict[str, Path], digits_npz: Path, job: Run
) -> None:
    report = report_of(job(exported["mlp"], {"method": "cluster", "clusters": 16}, data=digits_npz))
    assert report.compressed.size_bytes < report.baseline.size_bytes / 5
    assert report.compressed.parameters == report.baseline.parameters
    assert report.baseline.quality is not None
    assert report.compressed.quality is not None
    assert report.compressed.quality.value > report.baseline.quality.value - 0.03
