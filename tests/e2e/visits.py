"""What a person does in a real browser: opens pages, and uploads files."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from playwright.sync_api import Browser, FilePayload, Page

from tests.e2e.service import Service

WIDE = {"width": 1280, "height": 900}


@contextmanager
def visiting(
    chromium: Browser, service: Service, expected: tuple[str, ...] = (), **options: Any
) -> Iterator[Page]:
    """Hand out a page; it told the browser's console of no fault but the expected ones."""
    context = chromium.new_context(**{"base_url": service.gateway.url, **options})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert [line for line in said if not any(words in line for words in expected)] == []


def labelled_images() -> bytes:
    """Data for the small model beside pictures and a signal, of two classes."""
    rng = np.random.default_rng(0)
    packed = io.BytesIO()
    np.savez(
        packed,
        x=rng.normal(size=(30, 2)).astype(np.float32),
        images=rng.integers(0, 255, (30, 24, 32, 3), dtype=np.uint8),
        sound=np.sin(np.linspace(0, 60, 400, dtype=np.float32))[None].repeat(30, 0),
        targets=np.arange(30) // 15,
    )
    return packed.getvalue()


def upload(page: Page, kind: str, name: str, content: bytes) -> None:
    """Upload a file on the start page, and wait until it is looked at."""
    page.goto("/")
    form = page.locator(f'form[action^="/{kind}"]')
    file = FilePayload(name=name, mimeType="application/octet-stream", buffer=content)
    form.locator("input[type=file]").set_input_files(file)
    form.get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile(rf"/{kind}/\w+$"))
    page.locator(".badge", has_text="ready").wait_for()
