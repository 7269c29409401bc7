"""Structured logs on standard error: one JSON object a line, with the request's and job's ids.

Nothing secret is in them. Tracebacks hold no local variables, and whatever looks like an API key,
a signing secret, a password in a URL or the values of a database row is blotted out, whoever logs.
"""

import logging
import re
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import structlog

from app.settings import Logging

BLOT = "…"
"""What is written in place of a secret."""

_SECRETS = [
    (re.compile(pattern, flags), replacement)
    for pattern, flags, replacement in (
        # API keys and signing secrets of ours, credentials in a header, in a URL, in its query.
        (r"\b(plk_|whsec_)[\w+/=-]+", 0, rf"\1{BLOT}"),
        (r"\b(Bearer|Basic) +[\w.~+/=-]{8,}", re.IGNORECASE, rf"\1 {BLOT}"),
        (r"(://[^\s/:@]*:)[^\s'\"<>]*@", 0, rf"\1{BLOT}@"),
        (r"\b([\w-]*(?:password|secret|token|signature|sig|(?:access|api|account)_?key)=)[^\s&'\")]+",
         re.IGNORECASE, rf"\1{BLOT}"),
        # What PostgreSQL adds to an error: "Failing row contains (…)", "Key (…)=(…) exists".
        (r"\bDETAIL: .*?(?=(?:\n|\\n)(?:HINT|CONTEXT|\[SQL)|\Z)", re.DOTALL, f"DETAIL: {BLOT}"),
    )
]  # fmt: skip

log = structlog.get_logger(__name__)


def configure(settings: Logging) -> None:
    """Set up logging for this process: for structlog, ``logging``, warnings and lost exceptions."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.typing.Processor
    if settings.format == "json":
        trace = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared.append(structlog.processors.ExceptionRenderer(trace))
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        shared.append(structlog.processors.ExceptionRenderer())
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def without_secrets(text: str) -> str:
    """Return ``text`` with a blot in place of each thing that looks like a secret."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _without_secrets(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {name: _clean(value) for name, value in event.items()}


def _clean(value: Any) -> Any:
    """Return a value as it may be written, in its own shape where JSON has one for it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    if isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    return without_secrets(value if isinstance(value, str) else repr(value))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.critical("ended by an exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(lost: threading.ExceptHookArgs) -> None:
    if lost.exc_value is None or issubclass(lost.exc_type, SystemExit):
        return
    trace = (lost.exc_type, lost.exc_value, lost.exc_traceback)
    name = lost.thread.name if lost.thread else None
    log.critical("a thread ended by an exception", thread=name, exc_info=trace)
