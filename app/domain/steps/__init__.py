"""The steps that a request may name: one module a method, listed once, here."""

from app.domain.steps.base import Forecast, Needs, Outlook, Skipped, Step
from app.domain.steps.quantize import Quantize

AnyStep = Quantize
"""Any step of a request; a union discriminated by ``method`` as soon as there are two."""

METHODS: tuple[type[Step], ...] = (Quantize,)

__all__ = ["METHODS", "AnyStep", "Forecast", "Needs", "Outlook", "Quantize", "Skipped", "Step"]
