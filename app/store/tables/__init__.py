"""The tables. Every row that belongs to a tenant has a column for it."""

from app.store.tables.base import Json, Leased, Run, Table
from app.store.tables.devices import DeviceRow, MeasurementRow
from app.store.tables.fleet import ChoreRow, CounterRow, TurnRow, WorkerRow
from app.store.tables.jobs import (
    ArtifactRow,
    EventRow,
    JobRow,
    LayerTimeRow,
    MadeSamplesRow,
    PriceListRow,
    SensitivityRow,
    StepRow,
    TrialRow,
)
from app.store.tables.tenants import ApiKeyRow, BrowserSessionRow, IdempotencyRow, UsageRow
from app.store.tables.uploads import (
    BlobRow,
    DatasetRow,
    FetchRow,
    ModelRow,
    UploadPartRow,
    UploadRow,
)
from app.store.tables.webhooks import DeliveryRow, WebhookRow

__all__ = [
    "ApiKeyRow",
    "ArtifactRow",
    "BlobRow",
    "BrowserSessionRow",
    "ChoreRow",
    "CounterRow",
    "DatasetRow",
    "DeliveryRow",
    "DeviceRow",
    "EventRow",
    "FetchRow",
    "IdempotencyRow",
    "JobRow",
    "Json",
    "LayerTimeRow",
    "Leased",
    "MadeSamplesRow",
    "MeasurementRow",
    "ModelRow",
    "PriceListRow",
    "Run",
    "SensitivityRow",
    "StepRow",
    "Table",
    "TrialRow",
    "TurnRow",
    "UploadPartRow",
    "UploadRow",
    "UsageRow",
    "WebhookRow",
    "WorkerRow",
]
