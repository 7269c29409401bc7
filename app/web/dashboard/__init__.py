"""The pages for people: what the API offers, without a manual."""

from fastapi import APIRouter

from app.web.dashboard import (
    compose,
    datasets,
    devices,
    example,
    jobs,
    login,
    models,
    searches,
    sensitivity,
    settings,
    start,
    static,
    uploads,
    webhooks,
)

router = APIRouter(include_in_schema=False)
for part in (
    static,
    login,
    start,
    example,
    models,
    sensitivity,
    datasets,
    uploads,
    compose,
    searches,
    jobs,
    devices,
    webhooks,
    settings,
):
    router.include_router(part.router)
