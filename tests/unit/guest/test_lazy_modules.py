# SPDX-License-Identifier: Apache-2.0
"""An agent starts without what nobody calls, and has it the moment that somebody does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

AGENTS = Path(__file__).resolve().parents[3] / "agents"


def run(program: str) -> str:
    """What a program says that starts as an agent does, in a Python of its own."""
    start = (
        f"import sys\nsys.path.insert(0, {str(AGENTS)!r})\n"
        "from systemvm.guest import lazy_modules\nlazy_modules.begin()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_agent_imports_neither_asyncio_nor_cookies() -> None:
    shown = run(
        "import systemvm.guest.service, systemvm.ssvm.agent.role, systemvm.cpvm.role\n"
        "print(sorted({'asyncio.base_events', 'http.client', 'urllib.request'} & set(sys.modules)))"
    )
    assert shown == "[]"


def test_other_names_load_the_real_modules() -> None:
    shown = run(
        "from twisted.internet import defer\n"
        "import asyncio, http.cookiejar\n"
        "print(asyncio.run(asyncio.sleep(0, 'slept')), len(http.cookiejar.CookieJar()))\n"
        "print(asyncio.Lock.__name__)"
    )
    assert shown == "slept 0\nLock"


def test_coroutines_are_recognized() -> None:
    shown = run(
        "from twisted.internet.defer import Deferred\n"
        "async def answer(): return 42\n"
        "Deferred.fromCoroutine(answer()).addCallback(print)\n"
        "try: Deferred.fromCoroutine(42)\n"
        "except Exception as error: print(type(error).__name__)"
    )
    assert shown.split() == ["42", "NotACoroutineError"]


def test_the_garbage_collector_runs_after_the_imports() -> None:
    assert (
        run("import gc\nbefore = gc.isenabled()\nlazy_modules.end()\nprint(before, gc.isenabled())")
        == "False True"
    )
