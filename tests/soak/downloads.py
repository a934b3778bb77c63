# SPDX-License-Identifier: Apache-2.0
"""Downloads during a soak, and their account at its end: none lost, none done twice."""

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

MIB = 1 << 20
SIZE_MIB = 24
#: As many are on their way at any time.
AT_ONCE = 2
#: As many Ready ones are left on the store; the oldest is deleted for each further one.
KEPT = 4
POLL_S = 1.0
SETTLE_S = 420.0
#: How a download may end because of a kill, and what must have been killed for it.
PROVOKED = {
    "worker_died": {"worker", "agent", "VM"},
    # it begins again with a source that has waited, idle, for longer than its own timeout
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
        self._thread = threading.Thread(target=self._feed, name="downloads", daemon=True)
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

    def wait_until_some_move(self, timeout_s: float = 30.0) -> None:
        """Wait until bytes are transferred, or for a limited time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with self._lock:
                if any("%" in template.status for template in self._templates):
                    return
            time.sleep(0.2)

    def stop(self) -> None:
        """Register no more; downloads that were begun continue."""
        self._ending.set()
        self._thread.join(self._settle_s)
        if self._error is not None:
            raise self._error

    @property
    def ready_after_s(self) -> list[float]:
        """Return the seconds from registration to Ready of each template."""
        with self._lock:
            return [each.ready_after_s for each in self._templates if each.ready_after_s is not None]

    @property
    def waiting(self) -> int:
        """Return how many have not ended."""
        with self._lock:
            return sum(not each.settled for each in self._templates)

    # ---- the thread
    def _feed(self) -> None:
        try:
            while not self._ending.wait(POLL_S):
                with contextlib.suppress(OSError):
                    self._look()
                    self._delete_some()
                    if sum(not template.settled for template in self._templates) < self._at_once:
                        self._register()
        except BaseException as error:
            self._error = error

    def _look(self) -> None:
        rows = {row["id"]: row for row in self._rows()}
        with self._lock:
            for template in self._templates:
                row = rows.get(template.uuid)
                if row is not None:
                    template.ready, template.status = bool(row["isready"]), row.get("status") or ""
                    if template.ready and template.ready_after_s is None:
                        template.ready_after_s = time.monotonic() - template.registered_s
                elif not template.deleted:
                    raise LabError(f"{template.name} is not listed any more")

    def _rows(self) -> list[dict[str, Any]]:
        return self._lab.api.items("listTemplates", "template", templatefilter="all", pagesize=500, page=1)

    def _register(self) -> None:
        """Once for each name: one whose answer was cut off is looked for, and not asked for again."""
        name = f"{self._tag}-{len(self._templates)}"
        try:
            answer = self._lab.api.call(
                "registerTemplate",
                name=name,
                displaytext=name,
                url=self._url,
                format="QCOW2",
                hypervisor="KVM",
                zoneid=self._lab.api.items("listZones", "zone")[0]["id"],
                checksum="{SHA-256}" + self._sha256,
            )["template"]
            row = answer[0] if isinstance(answer, list) else answer
        except OSError:
            row = next((row for row in self._rows_when_there() if row["name"] == name), None)
        if row is not None:
            with self._lock:
                self._templates.append(Template(name, row["id"]))

    def _rows_when_there(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + self._settle_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return self._rows()
            time.sleep(POLL_S)
        raise LabError("the daemon's API did not come back")

    def _delete_some(self) -> None:
        kept = [template for template in self._templates if template.ready and not template.deleted]
        for template in kept[:-KEPT]:
            self._lab.api.call("deleteTemplate", id=template.uuid)
            template.deleted = True

    # ---- the account
    def settle(self, say: Callable[[str], None]) -> None:
        """Wait until all have ended and deleted ones are removed.

        Raises: AssertionError that names the others.
        """
        say("waiting for the last downloads")
        deadline = time.monotonic() + self._settle_s
        while True:
            with contextlib.suppress(OSError):
                self._look()
                open_ = [t for t in self._templates if not t.settled and not t.deleted]
                left = self._left_on_the_store()
                if not open_ and not left:
                    return
                assert time.monotonic() < deadline, f"not ended: {open_}; left on the store: {left}"
            assert time.monotonic() < deadline, "the daemon's API did not come back"
            time.sleep(POLL_S)

    def _left_on_the_store(self) -> list[str]:
        """Return files without an owner: of jobs, and of failed and deleted templates."""
        store = self._lab.plan.secondary
        wanted = {str(Path(path).parent) for path in self._install_paths()}
        return [
            str(path.relative_to(store))
            for path in store.rglob("*")
            if path.is_file() and str(path.relative_to(store).parent) not in wanted
        ]

    def _install_paths(self) -> list[str]:
        """Of every template that is there, those of other tests too."""
        with self._database() as database:
            return [path for (path,) in database.execute(_INSTALLED)]

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"file:{self._lab.plan.layout.database}?mode=ro", uri=True, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def account(self, killed: set[str]) -> dict[str, Any]:
        """Return the results of all downloads.

        Raises: AssertionError when one was lost, done twice, or failed without a cause.
        """
        with self._database() as database:
            refs = database.execute(_REFS, (f"{self._tag}-%",)).fetchall()
            ends = Counter(
                database.execute(
                    "select resource_uuid, type from events where type like 'TEMPLATE.DOWNLOAD.%'"
                ).fetchall()
            )
            jobs = database.execute("select command, uuid from async_jobs where status = 0").fetchall()
        names = Counter(row[0] for row in refs)
        assert sorted(names) == sorted(t.name for t in self._templates), "a template was lost"
        twice = [name for name, count in names.items() if count > 1]
        assert not twice, f"there twice: {twice}"
        assert not jobs, f"jobs that never ended: {jobs}"
        failed: dict[str, str] = {}
        for name, uuid, _, code, text, path in refs:
            succeeded = ends[(uuid, "TEMPLATE.DOWNLOAD.SUCCESS")]
            refused = ends[(uuid, "TEMPLATE.DOWNLOAD.FAILED")]
            assert succeeded + refused == 1, f"{name} ended {succeeded} times well and {refused} times badly"
            if refused:
                failed[name] = f"{code}: {text}"
                assert PROVOKED.get(code or "", set()) & killed, f"{name} failed without cause: {code} {text}"
            else:
                assert path, f"{name} is done, and nowhere"
        for template in self._templates:
            if template.ready and not template.deleted:
                self._is_whole(template)
        return {
            "registered": len(names),
            "ready": len(names) - len(failed),
            "failed": failed,
        }

    def _is_whole(self, template: Template) -> None:
        with self._database() as database:
            [(path,)] = database.execute(_PATH_OF, (template.uuid,)).fetchall()
        found = hashlib.sha256((self._lab.plan.secondary / path).read_bytes()).hexdigest()
        assert found == self._sha256, f"{template.name} on the store is not what the source serves"

    def delete_all(self) -> None:
        """Remove everything, so that the cloud can be used again."""
        for template in self._templates:
            if not template.deleted:
                with contextlib.suppress(LabError):
                    self._lab.api.run("deleteTemplate", id=template.uuid)
                template.deleted = True


def machines_of(lab: Cloud) -> list[str]:
    """Names of the QEMU processes of this lab, by their command lines."""
    mark = str(lab.plan.layout.run / "qemu")
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if words[0].startswith("qemu-system") and any(mark in word for word in words):
                    found.append(words[words.index("-name") + 1].split(",")[0])
    return sorted(found)


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
