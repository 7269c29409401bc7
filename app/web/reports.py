"""A report as a self-contained page."""

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.domain.reports import JobReport

CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded and nothing runs, whatever names a model brings along."""


def render(report: JobReport) -> str:
    """Return the report as HTML without scripts or anything from elsewhere."""
    return _environment().get_template("report.html").render(report=report)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("app.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
