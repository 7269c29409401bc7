"""The client's types are those of the service, field by field."""

import subprocess
import sys

import pytest
from pydantic import BaseModel

import app.domain.datasets
import app.domain.jobs
import app.domain.models
import app.domain.plans
import app.domain.problems
import app.domain.reports
import app.domain.searches
import app.domain.webhooks
from planish import types

PAIRS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (types.Model, app.domain.models.Model),
    (types.Tensor, app.domain.models.TensorSpec),
    (types.Dataset, app.domain.datasets.Dataset),
    (types.Targets, app.domain.datasets.Targets),
    (types.Job, app.domain.jobs.Job),
    (types.SearchState, app.domain.searches.SearchState),
    (types.TrialCounts, app.domain.searches.TrialCounts),
    (types.SearchPoint, app.domain.searches.SearchPoint),
    (types.FrontPoint, app.domain.jobs.FrontPoint),
    (types.Front, app.domain.jobs.Front),
    (types.Usage, app.domain.jobs.Usage),
    (types.Artifact, app.domain.jobs.Artifact),
    (types.Measures, app.domain.reports.Measures),
    (types.Quality, app.domain.reports.Quality),
    (types.Fidelity, app.domain.reports.Fidelity),
    (types.Worst, app.domain.reports.Worst),
    (types.Plan, app.domain.plans.Plan),
    (types.Webhook, app.domain.webhooks.Webhook),
    (types.Delivery, app.domain.webhooks.Delivery),
    (types.Attempt, app.domain.webhooks.Attempt),
    (types.Problem, app.domain.problems.ProblemDetails),
    (types.FieldError, app.domain.problems.FieldError),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda kind: kind.__qualname__)
def test_a_type_asks_for_no_field_that_the_service_does_not_send(
    ours: type[BaseModel], theirs: type[BaseModel]
) -> None:
    sent = {*theirs.model_fields, *theirs.model_computed_fields}
    assert set(ours.model_fields) <= sent


@pytest.mark.parametrize("module", ["planish", "planish.cli", "planish.demo.receiver"])
def test_what_is_heavy_is_imported_when_it_is_used(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "print([n for n in ('app', 'workers', 'sqlalchemy', 'numpy', 'torch', 'celery')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_public_face_is_there() -> None:
    import planish

    assert sorted(planish.__all__) == planish.__all__
    assert all(hasattr(planish, name) for name in planish.__all__)
