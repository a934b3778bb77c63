# SPDX-License-Identifier: Apache-2.0
"""Many registrations on an SSVM with a fifth of a core: each must become Ready, however late.

A wait fails only when nothing has changed for `STALL_S`, many times the duration of a download on such a
machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field

from systemvm.lab.cloud import Cloud

CORES = 0.2
REGISTRATIONS = 20
SIZE_BYTES = 2 << 20
#: The guest's load average (1 min) must stay below this.
MAX_LOAD = 4.0
STALL_S = 600.0
POLL_S = 2.0
HEALTH_EVERY_S = 20.0


@define
class Observation:
    """The figures of one run; times are seconds since the first registration."""

    registered: int = 0
    ready_s: list[float] = field(factory=list)
    failed: dict[str, str] = field(factory=dict)
    loads: list[float] = field(factory=list)
    unanswered: int = 0  # health calls without a reply
    waiting: list[int] = field(factory=list)  # downloads not yet Ready, at each poll
    hints: set[str] = field(factory=set)

    def to_row(self) -> dict[str, Any]:
        return {
            "registered": self.registered,
            "ready": len(self.ready_s),
            "failed": self.failed,
            "first_ready_s": round(min(self.ready_s), 1) if self.ready_s else None,
            "last_ready_s": round(max(self.ready_s), 1) if self.ready_s else None,
            "guest_load_max": max(self.loads, default=None),
            "guest_load_samples": len(self.loads),
            "health_unanswered": self.unanswered,
            "hints": sorted(self.hints),
        }


class StalledError(AssertionError):
    """There was no progress for too long."""


class SlowMachineRun:
    """Registers ISOs and observes them; `lab` is a running cloud whose VMs are limited by the caller."""

    def __init__(self, lab: Cloud, tag: str, report: Callable[[str], None]) -> None:
        self._lab = lab
        self._tag = tag
        self._report = report
        self.observed = Observation()

    def run(self, count: int = REGISTRATIONS, stall_s: float = STALL_S) -> Observation:
        """Register `count` ISOs at once and wait until each has ended; StalledError without progress."""
        ids = [self._register(number) for number in range(count)]
        self.observed.registered = count
        began_s = changed_s = health_s = time.monotonic()
        before: dict[str, tuple[Any, ...]] = {}
        while True:
            now_s = time.monotonic()
            rows = self._rows(ids)
            after = {row["id"]: (row["isready"], row.get("status"), _received(row)) for row in rows}
            for row in rows:
                if row["isready"] and not before.get(row["id"], (False,))[0]:
                    self.observed.ready_s.append(now_s - began_s)
                    self._report(
                        f"{len(self.observed.ready_s):2} of {count} Ready after {now_s - began_s:5.0f} s; "
                        f"guest load {self.observed.loads[-1:] or 'unknown'}"
                    )
                if _has_failed(row):
                    self.observed.failed[row["name"]] = str(row.get("status"))
                self.observed.hints.update(filter(None, [row.get("hint")]))
            if after != before:
                before, changed_s = after, now_s
            self.observed.waiting.append(sum(not row["isready"] for row in rows))
            if all(row["isready"] or _has_failed(row) for row in rows):
                return self.observed
            if now_s - changed_s > stall_s:
                states = sorted({str(row.get("status")) for row in rows if not row["isready"]})
                raise StalledError(f"nothing changed for {stall_s:.0f} s; {self.observed.to_row()}; {states}")
            if now_s - health_s >= HEALTH_EVERY_S:
                health_s = now_s
                self._sample_load()
            time.sleep(POLL_S)

    def _register(self, number: int) -> str:
        name = f"{self._tag}-{number}"
        source = self._lab.plan.source_pages / f"{name}.iso"
        _write_iso(source, name)
        zone = self._lab.api.items("listZones", "zone")[0]["id"]
        response = self._lab.api.call(
            "registerIso",
            name=name,
            displaytext=name,
            url=f"{self._lab.plan.source_url}/{source.name}",
            bootable=False,
            zoneid=zone,
        )["iso"]
        row = response[0] if isinstance(response, list) else response
        return str(row["id"])

    def _rows(self, ids: list[str]) -> list[dict[str, Any]]:
        rows = self._lab.api.items("listIsos", "iso", isofilter="self", pagesize=500, page=1)
        return [row for row in rows if row["id"] in ids]

    def _sample_load(self) -> None:
        health = self.health()
        if health is None:
            self.observed.unanswered += 1
        else:
            self.observed.loads.append(float(health["load_1min"]))

    def health(self) -> dict[str, Any] | None:
        """Return the SSVM agent's reply to `agent.health`, None without a reply."""
        machines = self._lab.api.items("listSystemVms", "systemvm", systemvmtype="secondarystoragevm")
        if not machines:
            return None
        command: list[str | Path] = [
            Path(sys.executable).with_name("systemvm"),
            "--root",
            self._lab.root,
            "--json",
        ]
        done = subprocess.run(
            [*command, "rpc", "call", machines[0]["name"], "agent.health"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        with contextlib.suppress(ValueError):
            reply = json.loads(done.stdout)
            if isinstance(reply, dict) and "load_1min" in reply:
                return reply
        return None


def _write_iso(path: Path, name: str) -> None:
    """Write a small, unique ISO: an ISO 9660 file system with random content."""
    noise = path.with_suffix(".noise")
    noise.mkdir(exist_ok=True)
    (noise / "noise.bin").write_bytes(os.urandom(SIZE_BYTES - (512 << 10)))
    subprocess.run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-V", name[:32].upper(), "-o", path, noise],
        check=True, capture_output=True,
    )  # fmt: skip
    (noise / "noise.bin").unlink()
    noise.rmdir()


def _received(row: dict[str, Any]) -> Any:
    return json.dumps(row.get("downloaddetails"), sort_keys=True)


def _has_failed(row: dict[str, Any]) -> bool:
    return any(detail.get("downloadState") == "DOWNLOAD_ERROR" for detail in row.get("downloaddetails", []))
