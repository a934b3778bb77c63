# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium, headless, in its own thread, because its event loop is not the tests' reactor."""

from __future__ import annotations

import base64
import io
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from console_page import CHROMIUM, scaled_ms
from systemvm.service.slowness import scaled_s

RUN_S = 400.0
#: Less than pytest's own limit, so that a test that hangs says what it has waited for.
MAX_WAIT_MS = 240_000.0
_T = TypeVar("_T")


def trusting(home: Path, *roots: bytes) -> dict[str, str]:
    """Return the environment of a browser that also trusts these roots (PEM), with its home directory."""
    store = home / ".pki/nssdb"
    store.mkdir(parents=True)
    run: list[str | Path] = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*run, "-N", "--empty-password"], check=True, timeout=60)
    for number, root in enumerate(roots):
        path = home / f"root-{number}.pem"
        path.write_bytes(root)
        add = [*run, "-A", "-t", "C,,", "-n", path.name, "-i", path]
        subprocess.run(add, check=True, timeout=60)
    return {"HOME": str(home)}


class Chromium:
    """One browser; each run gets a new window without cookies."""

    #: Whether a page reads the clipboard only with a permission, also what it has written itself.
    asks_for_the_clipboard = True

    def __init__(self, executable: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        """`executable` can be a script that enters a namespace first; `environment` adds variables."""
        self._options = {**CHROMIUM, "env": {**os.environ, **(environment or {})}}
        if executable is not None:
            self._options["executable_path"] = str(executable)
        self._thread = ThreadPoolExecutor(1, "chromium")
        self._playwright, self._browser = self._thread.submit(self._launch).result(scaled_s(120.0))

    def _launch(self) -> tuple[Playwright, Browser]:
        playwright = sync_playwright().start()
        return playwright, playwright.chromium.launch(**self._options)

    def run(
        self, steps: Callable[[Page], _T], *, dark: bool = False, trusts_all: bool = True, ignored: str = ""
    ) -> _T:
        """Run `steps` with a new page; fail when the page reports an error without the text `ignored`."""
        return self._thread.submit(self._run, steps, dark, trusts_all, ignored).result(scaled_s(RUN_S))

    def _run(self, steps: Callable[[Page], _T], dark: bool, trusts_all: bool, ignored: str) -> _T:
        window = self._browser.new_context(
            ignore_https_errors=trusts_all,
            viewport={"width": 1000, "height": 700},
            color_scheme="dark" if dark else "light",
        )
        page = window.new_page()
        # Playwright's own 5 s are too short for a machine that does other things
        wait_ms = min(scaled_ms(60.0), MAX_WAIT_MS)
        expect.set_options(timeout=wait_ms)
        page.set_default_timeout(wait_ms)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda entry: errors.append(entry.text) if "Content Security Policy" in entry.text else None,
        )
        try:
            result = steps(page)
        finally:
            window.close()
        if ignored:
            errors = [error for error in errors if ignored not in error]
        assert not errors, errors
        return result

    def close(self) -> None:
        def end() -> None:
            self._browser.close()
            self._playwright.stop()

        self._thread.submit(end).result(scaled_s(120.0))
        self._thread.shutdown()


@contextmanager
def passing(page: Page, condition: str) -> Iterator[None]:
    """Wait after the block until `condition`, in JavaScript, has held at some time since its beginning.

    A state that the page leaves by itself can be over before a wait for it begins.
    """
    page.evaluate(
        f"""() => {{
            window.passed = false;
            const look = () => {{ window.passed ||= {condition}; }};
            const all = {{ subtree: true, attributes: true, childList: true, characterData: true }};
            new MutationObserver(look).observe(document.documentElement, all);
            look();
        }}"""
    )
    yield
    page.wait_for_function("() => window.passed")


#: The page has lost its console, even if it is back.
INTERRUPTED = "document.body.dataset.state !== 'connected'"
#: The page has hidden its warning, even if the next one is shown.
UNWARNED = "document.querySelector('#warning').hidden"


def pixels(page: Page) -> bytes:
    """Return the pixels of the page's canvas, three bytes each."""
    url = page.evaluate("document.querySelector('#screen canvas').toDataURL('image/png')")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return image.convert("RGB").tobytes()


def wait_for_picture(page: Page, other_than: bytes = b"") -> bytes:
    """Wait for a screen of more than one colour that differs from `other_than`, and return its pixels."""
    for _ in range(round(scaled_s(150))):
        seen = pixels(page)
        if len(set(zip(seen[::3], seen[1::3], seen[2::3], strict=True))) > 1 and seen != other_than:
            return seen
        page.wait_for_timeout(200)
    raise AssertionError("the screen stayed blank or did not change")
