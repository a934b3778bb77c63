# SPDX-License-Identifier: Apache-2.0
"""A build is repeated once after a kernel panic of its VM, and after no other failure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "packer"))

import bake  # noqa: E402

CRASH = b"[  143.6] Oops: double fault\n[  143.7] Kernel panic - not syncing: Fatal exception in interrupt\n"


class FakePacker:
    """A Packer that fails `failures` times after its VM wrote `console` to the serial log."""

    def __init__(self, work: Path, failures: int, console: bytes) -> None:
        self.work, self.failures, self.console = work, failures, console
        self.runs = 0

    def __call__(self, *arguments: Any, log: Path, show: Any) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            (self.work / bake.SERIAL_LOG).write_bytes(self.console)
            raise SystemExit("Disconnect while removing temporary script")


@pytest.mark.parametrize(
    ("failures", "console", "runs", "built"),
    [(0, b"", 1, True), (1, CRASH, 2, True), (2, CRASH, 2, False), (1, b"login:", 1, False)],
)
def test_packer_is_repeated_only_after_a_kernel_panic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, console: bytes, runs: int, built: bool
) -> None:
    packer = FakePacker(tmp_path, failures, console)
    monkeypatch.setattr(bake, "run", packer)
    log = tmp_path / "ssvm-packer.log"
    if built:
        bake.run_packer(tmp_path, log, print)
    else:
        with pytest.raises(SystemExit, match="Disconnect"):
            bake.run_packer(tmp_path, log, print)
    assert packer.runs == runs
    assert (tmp_path / "ssvm-packer.crashed.log").exists() == (console == CRASH)


def test_packer_writes_the_serial_log_where_it_is_read() -> None:
    assert "${var.credentials}.serial.log" in (TOP / "packer/appliance.pkr.hcl").read_text()
    assert bake.SERIAL_LOG == "credential.serial.log"
