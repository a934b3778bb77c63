# SPDX-License-Identifier: Apache-2.0
"""The page's modules in a browser without a daemon, for tests of each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Page, Route

from integration.cpvm_lab.chromium import Chromium

ORIGIN = "https://cloud.example.test"
_TYPES = {"js": "text/javascript", "css": "text/css"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


def _serve(route: Route, body: str) -> None:
    name = route.request.url.removeprefix(f"{ORIGIN}/")
    if not name:
        route.fulfill(body=f"<!doctype html>{body}", content_type="text/html")
        return
    static = files("systemvm.management.page").joinpath("static", name)
    route.fulfill(body=static.read_bytes(), content_type=_TYPES[name.rpartition(".")[2]])


def open_modules(page: Page, body: str = "<p>test") -> None:
    """Open an empty page, from which `import("./NAME.js")` works."""
    page.route(f"{ORIGIN}/**", lambda route: _serve(route, body))
    page.goto(f"{ORIGIN}/")
