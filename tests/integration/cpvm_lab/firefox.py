# SPDX-License-Identifier: Apache-2.0
"""Debian's Firefox, headless. Playwright drives it by WebDriver BiDi, not a patched build."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

from integration.cpvm_lab.chromium import Chromium

RELAY = Path(__file__).with_name("bidi_relay.py")


class Firefox(Chromium):
    """One Firefox; each run gets a new window without cookies."""

    asks_for_the_clipboard = False

    def _launch(self) -> tuple[Playwright, Browser]:
        self._folder = tempfile.TemporaryDirectory(prefix="firefox-")
        script = Path(self._folder.name) / "firefox"
        # -P: a module of this folder must not take the place of one of Python's
        program = f"{shlex.quote(sys.executable)} -P {shlex.quote(str(RELAY))}"
        script.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        script.chmod(0o755)
        playwright = sync_playwright().start()
        # HOME: as root it refuses the home directory of another user
        environment = {**self._options["env"], "HOME": self._folder.name}
        return playwright, playwright.firefox.launch(
            channel="moz-firefox", executable_path=script, env=environment
        )

    def close(self) -> None:
        super().close()
        self._folder.cleanup()
