# SPDX-License-Identifier: Apache-2.0
"""What root's helper mounts for the daemon, and what it refuses. mount(8) is a fake here."""

from __future__ import annotations

import errno
import os
import subprocess
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from systemvm.mounthelper import programs
from systemvm.mounthelper.operations import OPTIONS, MountOperations, export
from systemvm.service.unix_calls import RefusedError
from systemvm.wire.mount_failure import MountFailure

POOL = "8d4e6a6e-1d0c-4d6e-9a51-0f2d5f3c1a11"
_FAKE_MOUNT = """#!/bin/sh
echo "mount $*" >> "$LOG"
[ -e "$LOG.hangs" ] && { exec 5> "$LOG.hangs"; sleep 1000; }
[ -e "$LOG.fails" ] && { cat "$LOG.fails" >&2; exit 32; }
for last; do :; done
echo "36 35 0:50 / $last rw - nfs4 $6 rw" >> "$MOUNTINFO"
"""
_FAKE_UMOUNT = """#!/bin/sh
echo "umount $*" >> "$LOG"
[ -e "$LOG.busy" ] && { echo "umount.nfs4: $3: device is busy" >&2; exit 16; }
rm -f "$LOG.stale"
: > "$MOUNTINFO"
"""
#: It is what a stale mount answers; of any other directory it is the real one.
_FAKE_STAT = """#!/bin/sh
[ -e "$LOG.stale" ] && { echo "stat: cannot statx '$3': Stale file handle" >&2; exit 1; }
exec /usr/bin/stat "$@"
"""


class FakeMount:
    """Programs in the place of mount(8), umount(8) and stat(1), which record what they are called with."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mounts, self.mountinfo, self.log = (
            directory / "pools",
            directory / "mountinfo",
            directory / "log",
        )
        self.mountinfo.touch()
        programs = directory / "bin"
        programs.mkdir()
        for name, text in (("mount", _FAKE_MOUNT), ("umount", _FAKE_UMOUNT), ("stat", _FAKE_STAT)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("LOG", str(self.log))
        monkeypatch.setenv("MOUNTINFO", str(self.mountinfo))
        self.server: bool | OSError = True
        self.operations = MountOperations(self.mounts, os.getuid(), os.getgid(), self.mountinfo, self.probe)

    def probe(self, server: str, version: int) -> bool:
        if isinstance(self.server, OSError):
            raise self.server
        return self.server

    def call(self, **request: object) -> None:
        assert self.operations({"pool": POOL, **request}, []) == ({}, [])

    def mount(self) -> None:
        self.call(do="mount", server="192.0.2.1", path="/export/primary")

    def refused(self, **request: object) -> RefusedError:
        with pytest.raises(RefusedError) as refused:
            self.call(**request or {"do": "mount", "server": "192.0.2.1", "path": "/export/primary"})
        return refused.value

    def has(self, state: str, text: str = "") -> Path:
        """Have the programs find a file of this name."""
        path = Path(f"{self.log}.{state}")
        path.write_text(text)
        return path

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def fake_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMount:
    return FakeMount(tmp_path, monkeypatch)


def test_an_export_is_mounted_once_and_given_to_the_daemon(fake_mount: FakeMount) -> None:
    for _ in range(2):
        fake_mount.mount()
    directory = fake_mount.mounts / POOL
    assert fake_mount.calls == [
        f"mount -t nfs -o {OPTIONS},proto=tcp -- 192.0.2.1:/export/primary {directory}"
    ]
    status = directory.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (os.getuid(), 0o2750)
    for _ in range(2):
        fake_mount.call(do="unmount")
    assert fake_mount.calls[1:] == [f"umount -c -- {directory}"]
    assert not directory.exists()


def test_another_export_at_its_place_is_refused(fake_mount: FakeMount) -> None:
    fake_mount.mount()
    refused = fake_mount.refused(do="mount", server="192.0.2.2", path="/export/primary")
    assert refused.reason == MountFailure.IN_USE.value
    assert "192.0.2.1:/export/primary is mounted at" in refused.message


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("mount.nfs: access denied by server while mounting 192.0.2.1:/e", MountFailure.REFUSES),
        ("mount.nfs: Operation not permitted", MountFailure.REFUSES),
        ("mount.nfs: mounting 192.0.2.1:/e failed, reason given by server: No such file or directory",
         MountFailure.NOT_EXPORTED),
        ("mount: unknown filesystem type 'nfs'.", MountFailure.NO_CLIENT),
        ("mount.nfs: No such device", MountFailure.NO_CLIENT),
        ("mount.nfs: Connection timed out", MountFailure.UNREACHABLE),
        ("mount.nfs: Stale file handle", MountFailure.STALE),
        ("what no release of it has written yet", MountFailure.FAILED),
    ],
)  # fmt: skip
def test_a_mount_that_fails_has_a_reason_and_not_what_mount_writes(
    fake_mount: FakeMount, output: str, reason: MountFailure
) -> None:
    fake_mount.has("fails", output)
    refused = fake_mount.refused()
    assert refused.reason == reason.value
    assert refused.message.startswith("192.0.2.1:/export/primary: ")
    assert refused.hint
    assert output not in refused.message


def test_a_server_that_hangs_is_reported_before_anything_is_mounted(fake_mount: FakeMount) -> None:
    fake_mount.server = False
    assert fake_mount.refused().reason == MountFailure.HANGS.value
    fake_mount.server = OSError(errno.ECONNREFUSED, "Connection refused")
    assert fake_mount.refused().reason == MountFailure.UNREACHABLE.value
    assert fake_mount.calls == []


def test_a_mount_that_hangs_is_killed_with_its_children(
    fake_mount: FakeMount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(programs, "REQUEST_TIMEOUT_S", 0.5)
    held = Path(f"{fake_mount.log}.hangs")
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert fake_mount.refused().reason == MountFailure.HANGS.value
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""  # no process has it open any more
    finally:
        os.close(reader)


def test_a_request_has_one_deadline_for_all_its_programs(
    fake_mount: FakeMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the daemon stops waiting before the helper has an answer."""
    now_s = 0.0
    timeouts_s: list[float] = []
    communicate = subprocess.Popen.communicate

    def communicate_slowly(process: Any, timeout: float) -> Any:
        nonlocal now_s
        timeouts_s.append(timeout)
        now_s += 50.0
        return communicate(process)

    monkeypatch.setattr(programs, "scaled_s", lambda seconds: seconds)
    monkeypatch.setattr(programs, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(subprocess.Popen, "communicate", communicate_slowly)
    assert fake_mount.refused().message == "192.0.2.1:/export/primary: chmod has no result after 120 s"
    assert timeouts_s == [120.0, 70.0, 20.0]


def test_a_stale_mount_that_nothing_uses_is_mounted_again(fake_mount: FakeMount) -> None:
    fake_mount.mount()
    stale = fake_mount.has("stale")
    fake_mount.mount()
    assert [call.split()[0] for call in fake_mount.calls] == ["mount", "umount", "mount"]
    stale.touch()
    fake_mount.has("busy")
    assert fake_mount.refused().reason == MountFailure.IN_USE.value


def test_a_mount_in_use_is_not_unmounted(fake_mount: FakeMount) -> None:
    fake_mount.mount()
    busy = fake_mount.has("busy")
    refused = fake_mount.refused(do="unmount")
    assert refused.reason == MountFailure.IN_USE.value
    assert refused.message == "192.0.2.1:/export/primary: something uses it"
    busy.unlink()
    fake_mount.call(do="unmount")
    assert not (fake_mount.mounts / POOL).exists()


@pytest.mark.parametrize("name", ["../../etc", "", "a", f"{POOL}/..", 3])
def test_a_pool_is_named_by_its_uuid(fake_mount: FakeMount, name: object) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        fake_mount.operations({"do": "mount", "pool": name, "server": "192.0.2.1", "path": "/e"}, [])
    assert fake_mount.calls == []


@pytest.mark.parametrize(
    ("server", "path"),
    [
        ("server.example.org", "/e"),
        ("-o exec", "/e"),
        ("192.0.2.1", "e"),
        ("192.0.2.1", "/a/../b"),
        ("192.0.2.1", "/a\nb"),
        ("192.0.2.1", f"/{'a' * 1024}"),
        (None, None),
    ],
)
def test_what_mount_would_interpret_differently_is_refused(
    fake_mount: FakeMount, server: object, path: object
) -> None:
    with pytest.raises(RefusedError):
        fake_mount.call(do="mount", server=server, path=path)
    assert fake_mount.calls == []


def test_an_ipv6_server_is_in_brackets() -> None:
    assert export("2001:db8::1", "/e") == "[2001:db8::1]:/e"


@pytest.mark.parametrize("operation", ["", "ensure", None])
def test_other_operations_are_refused(fake_mount: FakeMount, operation: object) -> None:
    with pytest.raises(RefusedError, match="unknown operation"):
        fake_mount.operations({"do": operation, "pool": str(uuid.uuid4())}, [])
