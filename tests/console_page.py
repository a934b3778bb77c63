# SPDX-License-Identifier: Apache-2.0
"""A browser on the page and on consoles, and the pixels of a guest's screen."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from booted_cloud import wait_for
from systemvm.management.first_start import FirstLogin
from systemvm.service.slowness import scaled_s

CHROMIUM: dict[str, Any] = {
    "executable_path": "/usr/bin/chromium",
    "args": [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
}


#: Playwright's own 5 s are too short for a machine that does other things.
expect.set_options(timeout=120_000)


def scaled_ms(timeout_s: float) -> float:
    """Return a timeout for Playwright in milliseconds, scaled to the present speed of this machine."""
    return 1000.0 * scaled_s(timeout_s)


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """Make a context of a browser that waits as long as `expect` does, instead of Playwright's own 30 s."""
    context = browser.new_context(**options)
    context.set_default_timeout(scaled_ms(120.0))
    return context


def screen(page: Page) -> np.ndarray:
    """Return the pixels of noVNC's canvas, as height x width x RGB."""
    picture = page.locator("#screen canvas").screenshot()
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def share(pixels: np.ndarray, colour: str) -> float:
    """Return the share of the screen that is mostly one colour; the screen of `tiny` is blue at first."""
    channel = {"red": 0, "green": 1, "blue": 2}[colour]
    others = np.delete(pixels, channel, axis=2).max(axis=2)
    return float((pixels[:, :, channel].astype(int) > others.astype(int) + 60).mean())


def lit(pixels: np.ndarray) -> int:
    """Count the bright pixels: text on a dark console."""
    return int((pixels.max(axis=2) > 120).sum())


def wait_screen(page: Page) -> None:
    """Wait until the page shows Connected and the guest's screen shows text."""
    page.wait_for_selector("body[data-state=connected]", timeout=scaled_ms(60.0))
    wait_for("text on the guest's screen", lambda: lit(screen(page)) > 300, 120)


def wait_colour(page: Page, colour: str) -> None:
    wait_for(f"a {colour} screen", lambda: share(screen(page), colour) > 0.5, 120)


def log_in(page: Page, url: str, login: FirstLogin) -> None:
    page.goto(url)
    page.fill("[name=username]", login.username)
    page.fill("[name=password]", login.password)
    page.click("#login-form button")
    page.wait_for_selector("#templates table")


def open_section(page: Page, title: str) -> None:
    """Choose a section in the navigation."""
    page.get_by_role("link", name=title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True).wait_for()
