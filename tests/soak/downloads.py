# SPDX-License-Identifier: Apache-2.0
"""Downloads during a soak test, and the final check that none was lost or repeated."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, field

from systemvm.lab.cloud import Cloud
from systemvm.lab.errors import LabError
from systemvm.service.slowness import scaled_s

MIB = 1 << 20
SIZE_MIB = 24
#: Downloads in progress at any time.
AT_ONCE = 2
#: Ready templates that stay on the store; the oldest is deleted for each further one.
KEPT = 4
POLL_S = 1.0
SETTLE_S = 420.0
#: Failures that a kill can cause, with the kinds of victims that cause them.
PROVOKED = {
    "worker_died": {"worker", "agent", "VM"},
    # the download resumes at a source whose connection was idle for longer than the source's timeout
    "connection_lost": {"worker", "agent", "VM"},
    "store_failed": {"NFS server"},
    "store_not_mounted": {"NFS server", "VM"},
    "mount_failed": {"NFS server", "VM"},
    "store_hangs": {"NFS server", "VM"},
    "store_unreachable": {"NFS server", "VM"},
}

_INSTALLED = """
select r.install_path from template_store_refs r join templates t on t.id = r.template_id
where r.removed is null and t.removed is null and r.install_path is not null
"""
_REFS = """
select t.name, t.uuid, r.state, r.error_code, r.error_text, r.install_path
from templates t left join template_store_refs r on r.template_id = t.id where t.name like ?
"""
_PATH_OF = """
select r.install_path from template_store_refs r join templates t on t.id = r.template_id where t.uuid = ?
"""


@define
class Template:
    name: str
    uuid: str
    deleted: bool = False
    status: str = ""
    ready: bool = field(default=False)
    registered_s: float = field(factory=time.monotonic)
    ready_after_s: float | None = None

    @property
    def settled(self) -> bool:
        moving = not self.status or "%" in self.status or self.status.startswith("Installing")
        return self.ready or not moving


class Downloads:
    """Registers one template after another in its own thread, until it is stopped."""

    def __init__(
        self,
        lab: Cloud,
        tag: str,
        *,
        at_once: int = AT_ONCE,
        size_mib: int = SIZE_MIB,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._lab = lab
        self._tag = tag
        self._at_once = at_once
        self._size_mib = size_mib
        self._settle_s = settle_s
        self._templates: list[Template] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="downloads", daemon=True)
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._url = ""
        self._sha256 = ""

    def start(self) -> None:
        """Copy the file to the download source and start."""
        image = self._lab.plan.source_pages / f"{self._tag}.qcow2"
        raw = image.with_suffix(".raw")
        raw.write_bytes(os.urandom(self._size_mib * MIB))
        subprocess.run(["qemu-img", "convert", "-q", "-O", "qcow2", raw, image], check=True)
        raw.unlink()
        self._sha256 = hashlib.sha256(image.read_bytes()).hexdigest()
        self._url = f"{self._lab.plan.source_url}/slow/{image.name}"
        self._thread.start()

    def wait_for_progress(self, timeout_s: float = 30.0) -> None:
        """Wait until any download transfers bytes, at most for `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with self._lock:
                if any("%" in template.status for template in self._templates):
                    return
            time.sleep(0.2)

    def stop(self) -> None:
        """Register no further downloads; running ones continue."""
        self._ending.set()
        self._thread.join(scaled_s(self._settle_s))
        if self._error is not None:
            raise self._error

    @property
    def ready_after_s(self) -> list[float]:
        """Return the seconds from registration to Ready of each template."""
        with self._lock:
            return [each.ready_after_s for each in self._templates if each.ready_after_s is not None]

    @property
    def waiting(self) -> int:
        """Return how many downloads have not ended."""
        with self._lock:
            return sum(not each.settled for each in self._templates)

    # ---- the thread
    def _run(self) -> None:
        try:
            while not self._ending.wait(POLL_S):
                with contextlib.suppress(OSError):
                    self._update()
                    self._delete_oldest()
                    if sum(not template.settled for template in self._templates) < self._at_once:
                        self._register()
        except BaseException as error:
            self._error = error

    def _update(self) -> None:
        rows = {row["id"]: row for row in self._rows()}
        with self._lock:
            for template in self._templates:
                row = rows.get(template.uuid)
                if row is not None:
                    template.ready, template.status = bool(row["isready"]), row.get("status") or ""
                    if template.ready and template.ready_after_s is None:
                        template.ready_after_s = time.monotonic() - template.registered_s
                elif not template.deleted:
                    raise LabError(f"{template.name} is no longer listed")

    def _rows(self) -> list[dict[str, Any]]:
        return self._lab.api.items("listTemplates", "template", templatefilter="all", pagesize=500, page=1)

    def _register(self) -> None:
        """Register a template; when the response is lost, look for the template, and do not call again."""
        name = f"{self._tag}-{len(self._templates)}"
        try:
            response = self._lab.api.call(
                "registerTemplate",
                name=name,
                displaytext=name,
                url=self._url,
                format="QCOW2",
                hypervisor="KVM",
                zoneid=self._lab.api.items("listZones", "zone")[0]["id"],
                checksum="{SHA-256}" + self._sha256,
            )["template"]
            row = response[0] if isinstance(response, list) else response
        except OSError:
            row = next((row for row in self._rows_after_recovery() if row["name"] == name), None)
        if row is not None:
            with self._lock:
                self._templates.append(Template(name, row["id"]))

    def _rows_after_recovery(self) -> list[dict[str, Any]]:
        began_s = time.monotonic()
        while time.monotonic() - began_s < scaled_s(self._settle_s):
            with contextlib.suppress(OSError):
                return self._rows()
            time.sleep(POLL_S)
        raise LabError("the daemon's API does not answer")

    def _delete_oldest(self) -> None:
        kept = [template for template in self._templates if template.ready and not template.deleted]
        for template in kept[:-KEPT]:
            # first: when the answer is lost with a killed daemon, it may be deleted all the same
            template.deleted = True
            self._lab.api.call("deleteTemplate", id=template.uuid)

    # ---- the final check
    def settle(self, report: Callable[[str], None]) -> None:
        """Wait until all downloads and jobs have ended, and deleted templates are removed.

        Raises: AssertionError that lists the others.
        """
        report("waiting for the last downloads")
        began_s = time.monotonic()
        awaited = "an answer of the daemon's API"
        while True:
            with contextlib.suppress(OSError):
                self._update()
                unfinished = [t for t in self._templates if not t.settled and not t.deleted]
                leftovers, jobs = self._leftover_files(), self._running_jobs()
                if not unfinished and not leftovers and not jobs:
                    return
                awaited = f"the end of {unfinished} and {jobs}; left on the store: {leftovers}"
            waited_s = time.monotonic() - began_s
            assert waited_s < scaled_s(self._settle_s), f"waited {waited_s:.0f} s for {awaited}"
            time.sleep(POLL_S)

    def _leftover_files(self) -> list[str]:
        """Return files on the store that belong to no installed template."""
        store = self._lab.plan.secondary
        owned = {str(Path(path).parent) for path in self._install_paths()}
        return [
            str(path.relative_to(store))
            for path in store.rglob("*")
            if path.is_file() and str(path.relative_to(store).parent) not in owned
        ]

    def _install_paths(self) -> list[str]:
        """Return the paths of all installed templates, including those of other tests."""
        with self._database() as database:
            return [path for (path,) in database.execute(_INSTALLED)]

    def _running_jobs(self) -> list[tuple[str, str]]:
        with self._database() as database:
            return database.execute("select command, uuid from async_jobs where status = 0").fetchall()

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"file:{self._lab.plan.layout.database}?mode=ro", uri=True, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def summary(self, killed: set[str]) -> dict[str, Any]:
        """Return the results of all downloads.

        Raises: AssertionError when one was lost, repeated, or failed without a kill that explains it.
        """
        with self._database() as database:
            refs = database.execute(_REFS, (f"{self._tag}-%",)).fetchall()
            ends = Counter(
                database.execute(
                    "select resource_uuid, type from events where type like 'TEMPLATE.DOWNLOAD.%'"
                ).fetchall()
            )
        jobs = self._running_jobs()
        names = Counter(row[0] for row in refs)
        assert sorted(names) == sorted(t.name for t in self._templates), "a template was lost"
        repeated = [name for name, count in names.items() if count > 1]
        assert not repeated, f"templates that exist twice: {repeated}"
        assert not jobs, f"jobs that never ended: {jobs}"
        failed: dict[str, str] = {}
        for name, uuid, _, code, text, path in refs:
            succeeded = ends[(uuid, "TEMPLATE.DOWNLOAD.SUCCESS")]
            failures = ends[(uuid, "TEMPLATE.DOWNLOAD.FAILED")]
            assert succeeded + failures == 1, (
                f"{name} succeeded {succeeded} times and failed {failures} times"
            )
            if failures:
                failed[name] = f"{code}: {text}"
                assert PROVOKED.get(code or "", set()) & killed, (
                    f"{name} failed without a cause: {code} {text}"
                )
            else:
                assert path, f"{name} has no install path"
        for template in self._templates:
            if template.ready and not template.deleted:
                self._check_content(template)
        return {
            "registered": len(names),
            "ready": len(names) - len(failed),
            "failed": failed,
        }

    def _check_content(self, template: Template) -> None:
        with self._database() as database:
            [(path,)] = database.execute(_PATH_OF, (template.uuid,)).fetchall()
        found = hashlib.sha256((self._lab.plan.secondary / path).read_bytes()).hexdigest()
        assert found == self._sha256, f"{template.name} on the store differs from the file of the source"

    def delete_all(self) -> None:
        """Delete all templates, so that other tests can use the cloud."""
        for template in self._templates:
            if not template.deleted:
                with contextlib.suppress(LabError):
                    self._lab.api.run("deleteTemplate", id=template.uuid)
                template.deleted = True


def machines_of(lab: Cloud) -> list[str]:
    """Return the names of this lab's QEMU processes, from their command lines."""
    mark = str(lab.plan.layout.run / "qemu")
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                argv = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if argv[0].startswith("qemu-system") and any(mark in argument for argument in argv):
                    found.append(argv[argv.index("-name") + 1].split(",")[0])
    return sorted(found)


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
