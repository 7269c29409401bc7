"""Self-contained HTML: one style, no script, nothing from elsewhere."""

import base64
import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app.web.tables import labelled


def render(template: str, **values: Any) -> str:
    """Return a page; every value is text, whatever markup it holds."""
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def csp() -> str:
    """Return the policy of every page: only our own style applies, nothing is loaded or run.

    The page carries it too, so that a saved one is as safe.
    """
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@lru_cache(maxsize=1)
def _style() -> str:
    return files("app.web").joinpath("templates/page.css").read_text()


def environment() -> Environment:
    """Return how templates of ours are filled in: what they do not know is an error."""
    made = Environment(
        loader=PackageLoader("app.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"json": _json, "labelled": labelled}
    return made


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = environment()
    made.globals |= {"csp": csp(), "style": Markup(_style())}  # noqa: S704 (a file of ours)
    return made


def _json(value: Any) -> str:
    """Return JSON that reads well and can be copied; unlike ``tojson`` it is escaped as text."""
    return json.dumps(value, indent=2, ensure_ascii=False)
