# SPDX-License-Identifier: Apache-2.0
"""Progress of a build, from the output of Packer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "packer"))

import bake  # noqa: E402
import progress  # noqa: E402

#: Output of Packer 1.6.6.
LOG = """\
qemu.appliance: output will be in this color.
2026-11-28T15:58:00Z: ==> qemu.appliance: Copying hard drive...
2026-11-28T15:58:01Z: ==> qemu.appliance: Starting VM, booting disk image
2026-11-28T15:58:03Z: ==> qemu.appliance: Waiting for SSH to become available...
2026-11-28T15:58:36Z: ==> qemu.appliance: Connected to SSH!
2026-11-28T15:58:36Z: ==> qemu.appliance: Uploading /x/payload.tar => /tmp/payload.tar
2026-11-28T15:58:40Z: ==> qemu.appliance: Provisioning with shell script: /x/hcl/provision/10-overlay.sh
2026-11-28T15:58:42Z: ==> qemu.appliance: Creating group 'systemvm' with GID 979.
2026-11-28T15:59:34Z: ==> qemu.appliance: Gracefully halting virtual machine...
2026-11-28T15:59:38Z: ==> qemu.appliance: Converting hard drive...
"""
SHOWN = [
    "copying the base disk",
    "starting the machine",
    "booting, until ssh answers",
    "sending agents and packages",
    "running 10-overlay.sh",
    "shutting down",
    "compressing the image",
]


def test_steps_are_printed_with_the_time_since_the_start() -> None:
    times = iter(range(1000))
    steps = progress.Steps(lambda: float(next(times)))
    shown = [text for text in map(steps.read, LOG.splitlines()) if text is not None]
    assert [text.partition(" s  ")[2] for text in shown] == SHOWN
    assert [int(text.partition(" s ")[0]) for text in shown] == [1, 2, 3, 4, 5, 6, 7]


def test_a_long_step_is_printed_again() -> None:
    now_s = 0.0
    steps = progress.Steps(lambda: now_s)
    now_s = 300.0
    assert steps.still() is None, "no step has begun"
    steps.read(LOG.splitlines()[3])
    now_s += progress.STILL_EVERY_S - 1
    assert steps.still() is None
    now_s += 1
    assert steps.still() == " 360 s  still booting, until ssh answers"
    assert steps.still() is None


def test_steps_are_printed_during_the_run_and_all_output_is_in_the_log(tmp_path: Path) -> None:
    log, printed = tmp_path / "log", list[str]()
    (tmp_path / "output").write_text(LOG)
    bake.run("sh", "-c", f"cat {tmp_path / 'output'}; printf 'no newline'", log=log, show=printed.append)
    assert [text.partition(" s  ")[2] for text in printed] == SHOWN
    assert log.read_text() == LOG + "no newline"


def test_a_failure_prints_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=rf"ssh gave up\nerror: sh failed\nhint:  .*{os.sep}log"):
        bake.run("sh", "-c", "echo ssh gave up >&2; exit 3", log=tmp_path / "log", show=print)
