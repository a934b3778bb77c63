# SPDX-License-Identifier: Apache-2.0
"""What root's helper mounts for the daemon, and what it refuses. mount(8) is a stand-in here."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from systemvm.mounthelper.operations import OPTIONS, Operations, export
from systemvm.service.unix_calls import RefusedError

POOL = "8d4e6a6e-1d0c-4d6e-9a51-0f2d5f3c1a11"
_MOUNT = """#!/bin/sh
echo "mount $*" >> "$LOG"
[ -e "$LOG.fails" ] && { echo "mount.nfs: access denied" >&2; exit 32; }
for last; do :; done
echo "36 35 0:50 / $last rw - nfs4 $6 rw" >> "$MOUNTINFO"
"""
_UMOUNT = """#!/bin/sh
echo "umount $*" >> "$LOG"
: > "$MOUNTINFO"
"""


class StandIn:
    """Programs in the place of mount(8) and umount(8), which record what they are called with."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mounts, self.mountinfo, self.log = (
            directory / "pools",
            directory / "mountinfo",
            directory / "log",
        )
        self.mountinfo.touch()
        programs = directory / "bin"
        programs.mkdir()
        for name, text in (("mount", _MOUNT), ("umount", _UMOUNT)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("LOG", str(self.log))
        monkeypatch.setenv("MOUNTINFO", str(self.mountinfo))
        self.operations = Operations(self.mounts, os.getuid(), os.getgid(), self.mountinfo)

    def call(self, **request: object) -> None:
        assert self.operations({"pool": POOL, **request}, []) == ({}, [])

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


def test_an_export_is_mounted_once_and_given_to_the_daemon(stand_in: StandIn) -> None:
    for _ in range(2):
        stand_in.call(do="mount", server="192.0.2.1", path="/export/primary")
    directory = stand_in.mounts / POOL
    assert stand_in.calls == [f"mount -t nfs -o {OPTIONS} -- 192.0.2.1:/export/primary {directory}"]
    status = directory.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (os.getuid(), 0o2750)
    for _ in range(2):
        stand_in.call(do="unmount")
    assert stand_in.calls[1:] == [f"umount -- {directory}"]
    assert not directory.exists()


def test_another_export_at_its_place_is_refused(stand_in: StandIn) -> None:
    stand_in.call(do="mount", server="192.0.2.1", path="/export/primary")
    with pytest.raises(RefusedError, match=r"192\.0\.2\.1:/export/primary is mounted at"):
        stand_in.call(do="mount", server="192.0.2.2", path="/export/primary")


def test_a_mount_that_fails_names_the_export_and_not_what_mount_writes(stand_in: StandIn) -> None:
    Path(f"{stand_in.log}.fails").touch()
    with pytest.raises(RefusedError) as refused:
        stand_in.call(do="mount", server="192.0.2.1", path="/export/primary")
    assert refused.value.message == "192.0.2.1:/export/primary: mount ended with status 32"
    assert "access denied" not in str(refused.value)


@pytest.mark.parametrize("name", ["../../etc", "", "a", f"{POOL}/..", 3])
def test_a_pool_is_named_by_its_uuid(stand_in: StandIn, name: object) -> None:
    with pytest.raises((ValueError, AttributeError)):
        stand_in.operations({"do": "mount", "pool": name, "server": "192.0.2.1", "path": "/e"}, [])
    assert stand_in.calls == []


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
    stand_in: StandIn, server: object, path: object
) -> None:
    with pytest.raises(RefusedError):
        stand_in.call(do="mount", server=server, path=path)
    assert stand_in.calls == []


def test_an_ipv6_server_is_in_brackets() -> None:
    assert export("2001:db8::1", "/e") == "[2001:db8::1]:/e"


@pytest.mark.parametrize("operation", ["", "ensure", None])
def test_other_operations_are_refused(stand_in: StandIn, operation: object) -> None:
    with pytest.raises(RefusedError, match="unknown operation"):
        stand_in.operations({"do": operation, "pool": str(uuid.uuid4())}, [])
