"""``/models``: uploaded models, and what each is made of."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from app.domain.models import MAX_NODES, Layer, ModelDescription, ModelHints, place_name
from app.domain.problems import Problem
from app.domain.steps import METHODS, Outlook
from app.domain.steps.elastic import NO_BLOCKS, Subnet, Supernet
from app.services import models
from app.web.api import models as api
from app.web.dashboard import page
from app.web.dashboard.arriving import refer, take
from app.web.dashboard.drawing import drawn
from app.web.dashboard.lists import Cursor, jobs_of, models_of, results_of
from app.web.dashboard.scatter import picture
from app.web.dashboard.sending import Made, Sent, change, made_id
from app.web.dashboard.visitor import Form, Looking, Visitor
from app.web.hints import Cache, hints_of
from app.web.intake import MODEL

router = APIRouter()

Column = Literal["order", "name", "operator", "parameters", "macs"]

_SHOWN_LAYERS = 500
_JOBS = 50


@router.get("/models")
def list_models(visitor: Looking, cursor: Cursor = None) -> Response:
    """List the models."""
    return page.of_uploads("models.html", visitor, models_of(visitor, cursor))


@router.post("/models")
async def upload_model(
    request: Request,
    visitor: Looking,
    form_token: Annotated[str, Query()] = "",
    cache: Cache = False,
) -> Response:
    """Take in the file that a form sends."""
    hints = ModelHints(cache=cache)
    return await take(
        request,
        visitor,
        form_token,
        MODEL,
        lambda filename: models.new(visitor.tenant, None, filename, hints),
    )


@router.post("/models/fetch")
def fetch_model(visitor: Looking, form: Form, once: Sent) -> Response:
    """Have a model fetched from its address, or show what is wrong with that."""
    try:
        return refer(visitor, form, MODEL, once)
    except Problem as fault:
        return page.of_uploads("models.html", visitor, models_of(visitor), fault, form)


@router.get("/models/{model_id}")
def show_model(
    model_id: str,
    visitor: Looking,
    sort: Column = "order",
    operator: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Show a model: its figures, its layers, which methods apply, its jobs."""
    return _shown(visitor, model_id, sort, operator)


def _shown(
    visitor: Visitor,
    model_id: str,
    sort: Column = "order",
    operator: str = "",
    fault: Problem | None = None,
    told: Mapping[str, str] | None = None,
) -> Response:
    with visitor.call.transaction() as session:
        model, known = models.look(session, visitor.tenant, model_id)
        asked = models.asked_for(models.find(session, visitor.tenant, model_id))
    jobs = jobs_of(visitor, limit=_JOBS, model=model_id)
    layers = _sorted(known, sort, operator) if known else []
    return page.show(
        "model.html",
        visitor,
        status=fault.status if fault else 200,
        fault=fault,
        faults=page.faults(fault) if fault else {},
        asked=set(asked) | {name for name, text in (told or {}).items() if text},
        told=told or _told(asked),
        model=model,
        known=known,
        invented=_invented(known) if known else None,
        layers=layers[:_SHOWN_LAYERS],
        hidden=max(len(layers) - _SHOWN_LAYERS, 0),
        distributions=known.distributions if known else {},
        most_parameters=max((layer.parameters for layer in layers), default=0),
        most_macs=max((layer.macs for layer in layers), default=0),
        sort=sort,
        operator=operator,
        methods=_applicable(known, model.size_bytes) if known else [],
        jobs=jobs.items,
        picture=picture(results_of(visitor, jobs.items)),
    )


@router.post("/models/{model_id}/again")
def read_again(model_id: str, visitor: Looking, form: Form, once: Sent) -> Response:
    """Read a rejected upload once more, with what its file does not tell."""
    told = {name: str(form.get(name, "")).strip() for name in ("architecture", "inputs", "cache")}
    settings = visitor.gateway.settings
    try:
        hints = hints_of(
            told["architecture"] or None, told["inputs"] or None, cache=bool(told["cache"])
        )
        answer = once(
            202,
            lambda session: Made(
                id=models.read_again(session, settings, visitor.tenant, model_id, hints).id
            ),
            tell="model",
        )
    except Problem as fault:
        return _shown(visitor, model_id, fault=fault, told=told)
    return page.see(f"/models/{made_id(answer)}")


@router.get("/models/{model_id}/graph")
def show_graph(model_id: str, visitor: Looking) -> Response:
    """Show the graph as nodes and what they read."""
    with visitor.call.transaction() as session:
        model, known = models.look(session, visitor.tenant, model_id)
    return page.show(
        "graph.html",
        visitor,
        model=model,
        drawing=drawn(known.nodes) if known and known.nodes else None,
        weighty={layer.name: layer.parameters for layer in known.layers} if known else {},
        most=MAX_NODES,
    )


@router.get("/models/{model_id}/content")
async def download_model(request: Request, model_id: str, visitor: Looking) -> Response:
    """Download the self-contained graph."""
    return await api.download_model(request, model_id, visitor.call, "onnx")


@router.post("/models/{model_id}/delete")
def delete_model(model_id: str, once: Sent) -> Response:
    """Forget a model that no job uses."""
    change(once, models.delete, model_id)
    return page.see("/models")


def _told(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return what was said of an upload as a person would type it again."""
    inputs = asked.get("inputs")
    return {
        "architecture": asked.get("architecture") or "",
        "inputs": json.dumps(inputs) if inputs else "",
        "cache": "true" if asked.get("cache") else "",
    }


def _invented(known: ModelDescription) -> dict[str, object] | None:
    """Return the first size that is called by its place, as inspection calls one without a name."""
    for tensor in (*known.inputs, *known.outputs):
        for axis, size in enumerate(tensor.shape):
            if size == place_name(tensor.name, axis):
                return {"name": size, "tensor": tensor.name, "place": axis + 1}
    return None


def _sorted(known: ModelDescription, column: Column, operator: str) -> list[Layer]:
    layers = [layer for layer in known.layers if not operator or layer.operator == operator]
    if column == "order":
        return layers
    largest_first = column in {"parameters", "macs"}
    return sorted(layers, key=lambda layer: getattr(layer, column), reverse=largest_first)


def _applicable(known: ModelDescription, size_bytes: int) -> list[dict[str, object]]:
    """Say of each method to what share of the parameters it applies, and what it leaves alone."""
    outlook = Outlook.of(known, size_bytes, samples=0)
    whole = max(sum(layer.parameters for layer in known.layers), 1)
    found = []
    for step in METHODS:
        default = step(method=step.model_fields["method"].default)
        skipped = default.forecast(outlook).skipped
        taken = sum(layer.parameters for layer in outlook.layers_beside(skipped))
        obstacle = ""
        if isinstance(default, Supernet | Subnet) and known.blocks == 0:
            obstacle = f"{NO_BLOCKS}; 'prune' makes its layers narrower"
        if default.needs.trainable and known.trainable is False:
            first = known.untrainable[0]
            obstacle = f"it trains, and '{first.node}' is in the way: {first.reason}"
        found.append(
            {
                "method": default.method,
                "title": step.title,
                "share": 0.0 if obstacle else taken / whole,
                "obstacle": obstacle,
                "reasons": sorted({skip.reason for skip in skipped})[:3],
                "data": default.needs.data,
            }
        )
    return found
