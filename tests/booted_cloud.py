# SPDX-License-Identifier: Apache-2.0
"""The booted cloud that image and system tests share, and the clients that reach it as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cs import CloudStack

from systemvm.lab.cloud import Cloud
from systemvm.lab.waiting import WaitState
from systemvm.service.slowness import scaled_s

TOP = Path(__file__).resolve().parents[1]


def wait_for(what: str, ready: Callable[[], Any], timeout_s: float = 240.0, every_s: float = 0.5) -> Any:
    """Poll until the result is true; the failure names the condition and the last result.

    `timeout_s` counts from the last change of the result, and is scaled on a slow machine.
    """
    before: Any = object()
    changed_s = time.monotonic()
    while True:
        result = ready()
        if result:
            return result
        if result != before:
            before, changed_s = result, time.monotonic()
        waited_s = time.monotonic() - changed_s
        if waited_s > scaled_s(timeout_s):
            raise AssertionError(f"waited {waited_s:.0f} s for {what}; last result: {result!r}")
        time.sleep(every_s)


class BootedCloud:
    """A running lab cloud, and the clients that reach it."""

    def __init__(self, lab: Cloud) -> None:
        self.lab = lab
        self.plan = lab.plan
        login = lab.login
        self.api = CloudStack(
            endpoint=f"{self.plan.page_url}/client/api",
            key=login.api_key,
            secret=login.secret_key,
            timeout=300,
        )

    @property
    def tiny_image(self) -> Path:
        """The small bootable disk that the source serves as `tiny.qcow2`."""
        return self.plan.source_pages / "tiny.qcow2"

    # ---- the command line ----
    @property
    def command_line(self) -> list[str]:
        """Return the command line of `systemvm` for this cloud."""
        return [str(Path(sys.executable).with_name("systemvm")), "--root", str(self.lab.root)]

    def cli(
        self, *arguments: str, check: bool = True, timeout_s: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run `systemvm ARGUMENTS…` as an operator does; `timeout_s` is scaled on a slow machine."""
        done = subprocess.run(
            [*self.command_line, *arguments],
            capture_output=True,
            text=True,
            timeout=scaled_s(timeout_s),
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        if check:
            assert done.returncode == 0, f"systemvm {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def cli_json(self, *arguments: str) -> Any:
        return json.loads(self.cli("--json", *arguments).stdout)

    def ssh(self, name: str, command: str, timeout_s: float = 120.0) -> str:
        """Return what `command` prints in the guest, as root over port 3922."""
        return self.cli("ssh", name, "--", command, timeout_s=timeout_s).stdout

    # ---- the API ----
    def system_vm(self, kind: str) -> dict[str, Any]:
        """Return the zone's one system VM of a kind: `secondarystoragevm` or `consoleproxy`."""
        rows = self.api.listSystemVms(systemvmtype=kind).get("systemvm", [])
        assert rows, f"the zone has no {kind}"
        found: dict[str, Any] = rows[0]
        return found

    def wait_up(self, kind: str) -> dict[str, Any]:
        """Wait until the zone's system VM of a kind is Up, and return it.

        Raises: StalledError, with the cause, when it makes no progress.
        """

        def look() -> WaitState[dict[str, Any]]:
            rows = self.api.listSystemVms(systemvmtype=kind).get("systemvm", [])
            up = [row for row in rows if row.get("agentstate") == "Up" and row["state"] == "Running"]
            states = [(row["name"], row["state"], row.get("agentstate"), row.get("reason")) for row in rows]
            return WaitState(f"a {kind} that is Up: {states}", next(iter(up), None), progress=tuple(states))

        return self.lab.wait(look, lambda: self.lab.why(kind))

    def zone_id(self) -> str:
        found: str = self.api.listZones()["zone"][0]["id"]
        return found

    def job(self, jobid: str) -> dict[str, Any]:
        """Wait for a job and return its result.

        Raises: AssertionError when it failed; StalledError when it makes no progress.
        """

        def look() -> WaitState[dict[str, Any]]:
            answer = self.api.queryAsyncJobResult(jobid=jobid)
            return WaitState(f"job {jobid}", answer if answer["jobstatus"] != 0 else None)

        answer = self.lab.wait(look, lambda: f"see {self.lab.daemon_log}")
        assert answer["jobstatus"] == 1, answer["jobresult"]
        return answer.get("jobresult") or {}

    def register(self, name: str, url: str, image_format: str = "QCOW2", **more: Any) -> dict[str, Any]:
        common = {"name": name, "displaytext": name, "url": url, "zoneid": self.zone_id(), **more}
        if image_format == "ISO":
            answer = self.api.registerIso(**common)["iso"]
        else:
            answer = self.api.registerTemplate(**common, format=image_format, hypervisor="KVM")["template"]
        found: dict[str, Any] = answer[0] if isinstance(answer, list) else answer
        return found

    def template(self, template_id: str) -> dict[str, Any] | None:
        rows = self.api.listTemplates(templatefilter="all", id=template_id).get("template", [])
        rows += self.api.listIsos(isofilter="all", id=template_id).get("iso", [])
        return rows[0] if rows else None

    def templates(self) -> dict[str, bool]:
        """Return the ids of all templates and ISOs, True for an ISO."""
        rows = self.api.listTemplates(templatefilter="all").get("template", [])
        isos = self.api.listIsos(isofilter="all").get("iso", [])
        return {row["id"]: False for row in rows} | {row["id"]: True for row in isos}

    def wait_settled(self, template_id: str) -> dict[str, Any]:
        """Wait until the template is Ready or has failed; StalledError when it makes no progress."""

        def look() -> WaitState[dict[str, Any]]:
            row = self.template(template_id)
            assert row is not None
            status = row.get("status") or ""
            states = {detail["downloadState"] for detail in row.get("downloaddetails", [])}
            settled = row["isready"] or "DOWNLOAD_ERROR" in states
            progress = (status, row.get("hint"))
            return WaitState(f"{row['name']}: {status}", row if settled else None, progress=progress)

        return self.lab.wait(look, lambda: self.lab.why("secondarystoragevm"))

    def delete_template(self, template_id: str, iso: bool = False) -> None:
        delete = self.api.deleteIso if iso else self.api.deleteTemplate
        self.job(delete(id=template_id)["jobid"])

    # ---- secondary storage ----
    def store_files(self) -> set[str]:
        """Return every file below the export, with hidden ones, as paths relative to it."""
        store = self.plan.secondary
        # os.walk passes over a directory that is removed meanwhile
        found = (Path(folder, name) for folder, _, names in os.walk(store) for name in names)
        return {str(path.relative_to(store)) for path in found}
