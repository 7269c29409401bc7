"""``/models/{id}/sensitivity``: the chart of a model, and how to have it measured."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from app.domain.generated import GENERATED
from app.domain.problems import Invalid, NotFound, Problem
from app.domain.sensitivity import ModelSensitivity, Saved
from app.services import models, sensitivities
from app.services.sensitivities import SensitivityRequest
from app.web.dashboard import page
from app.web.dashboard.lists import datasets_offered
from app.web.dashboard.sending import Sent, made_id
from app.web.dashboard.visitor import Form, Looking, Visitor

router = APIRouter()

_HEATS = (0.001, 0.01, 0.05, 0.2)
"""The shares of what is lost from which on a cell is darker."""


@dataclass(frozen=True)
class Cell:
    """A form of a layer, as the page shows it."""

    heat: int
    lost: str
    """By the figure that results are judged by."""
    variance: str | None
    """The variance that is lost, where results are judged by answers."""
    saved: Saved


@router.get("/models/{model_id}/sensitivity")
def show_sensitivity(
    model_id: str, visitor: Looking, data: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """Show what each layer loses and saves in each form."""
    return _shown(visitor, model_id, data)


@router.post("/models/{model_id}/sensitivity")
def measure_sensitivity(model_id: str, visitor: Looking, form: Form, once: Sent) -> Response:
    """Queue the job that measures the model."""
    dataset = str(form.get("dataset", ""))
    try:
        if not dataset:
            raise Invalid("Choose data: sensitivity is measured on samples.")
        generated = dataset == GENERATED
        request = SensitivityRequest(
            dataset=None if generated else dataset, data=GENERATED if generated else None
        )
        settings = visitor.gateway.settings
        answer = once(
            202,
            lambda session: sensitivities.measure(
                session, visitor.tenant, model_id, request, settings
            ),
            tell="job",
        )
    except ValidationError:
        return _shown(visitor, model_id, "", Invalid("This is not the id of a dataset."))
    except NotFound:
        raise
    except Problem as fault:
        return _shown(visitor, model_id, "", fault)
    return page.see(f"/jobs/{made_id(answer)}")


def _shown(
    visitor: Visitor, model_id: str, data: str = "", fault: Problem | None = None
) -> Response:
    with visitor.call.transaction() as session:
        model = models.show(session, visitor.tenant, model_id)
        try:
            chart = sensitivities.show(session, visitor.tenant, model_id, data or None)
        except NotFound:
            chart = None
    chosen = data or (chart.dataset if chart else "")
    return page.show(
        "sensitivity.html",
        visitor,
        status=fault.status if fault else 200,
        fault=fault,
        model=model,
        chart=chart,
        rows=_rows(chart) if chart else [],
        heats=_HEATS,
        chosen=chosen,
        datasets=datasets_offered(visitor, [chosen]),
    )


def _rows(chart: ModelSensitivity) -> list[list[Cell | str]]:
    """Return the chart's cells row by row; a reason where there is none."""
    return [
        [_cell(chart, row, column) for column in range(len(chart.forms))]
        for row in range(len(chart.layers))
    ]


def _cell(chart: ModelSensitivity, row: int, column: int) -> Cell | str:
    lost, cost = chart.judged[row][column], chart.cost[row][column]
    saved = chart.saved[row][column]
    if lost is None or cost is None or saved is None:
        return chart.reasons[row][column] or "It was not measured."
    heat = sum(lost >= limit for limit in _HEATS)
    return Cell(heat, _percent(lost), _percent(cost) if chart.answers else None, saved)


def _percent(share: float) -> str:
    """Return a share in percent; what is not nothing is never written as nothing."""
    if 0 < share < 0.0001:
        return "< 0.01 %"
    return f"{100 * share:.2g} %" if share < 1 else "100 %"
