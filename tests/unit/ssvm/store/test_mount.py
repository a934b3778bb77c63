# SPDX-License-Identifier: Apache-2.0
"""Mounting a store: mount point, options and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.service.mountinfo import MountPoint, find_mount
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store import mount
from systemvm.ssvm.store_messages import mount_id, require_mount_id, require_name, require_number
from systemvm.wire.storage import Store
from systemvm.wire.transfer_failure import TransferFailure

STORE = Store("10.12.0.2", "/export/secondary")


def test_mount_point_is_that_of_cloudstack() -> None:
    # java.util.UUID.nameUUIDFromBytes("10.12.0.2:/export/secondary".getBytes())
    assert mount_id(STORE) == "cc8c7489-e361-34c4-8600-2d40a247f645"


def test_mount_command_has_the_options_of_a_store() -> None:
    command = mount.mount_command(STORE, Path("/mnt/SecStorage/x"))
    assert command[:4] == ["mount", "-t", "nfs", "-o"]
    assert command[5:] == ["--", "10.12.0.2:/export/secondary", "/mnt/SecStorage/x"]
    options = command[4].split(",")
    assert {"soft", "vers=4.2", "nosuid", "nodev", "noexec", "retry=0", "acdirmax=0"} <= set(options)
    of_ipv6 = mount.mount_command(Store("fd00::2", "/x"), Path("/m"))
    assert "[fd00::2]:/x" in of_ipv6
    # `tcp` is IPv4 only
    assert "proto=tcp6" in of_ipv6[4].split(",")
    assert "proto=tcp" in command[4].split(",")


def options_of(store: Store) -> list[str]:
    return mount.mount_command(store, Path("/m"))[4].split(",")


def test_a_stores_own_options_replace_ours_of_the_same_name() -> None:
    options = options_of(Store("10.12.0.2", "/x", "4.1", "hard,timeo=600,nconnect=4"))
    assert {"hard", "timeo=600", "nconnect=4", "vers=4.1"} <= set(options)
    assert not {"soft", "timeo=150"} & set(options)


def test_nfs_3_is_mounted_without_a_lock_daemon() -> None:
    assert "nolock" in options_of(Store("10.12.0.2", "/x", "3"))
    assert options_of(Store("10.12.0.2", "/x", "3", "nolock")).count("nolock") == 1
    assert "nolock" not in options_of(Store("10.12.0.2", "/x", "3", "lock"))
    assert "nolock" not in options_of(STORE)


def test_a_read_only_store_is_mounted_read_only() -> None:
    assert "ro" in options_of(Store("10.12.0.2", "/x", read_only=True))
    assert "ro" not in options_of(STORE)


@pytest.mark.parametrize(
    "store",
    [Store("nfs.example", "/x"), Store("10.0.0.1;rm", "/x"), Store("10.0.0.1", "x"),
     Store("10.0.0.1", "/a/../b"),
     Store("10.0.0.1", "/a\n"), Store("10.0.0.1", "/x", "5"), Store("10.0.0.1", "/x", "4.2,exec"),
     Store("10.0.0.1", "/x", mount_options="exec"), Store("10.0.0.1", "/x", mount_options="timeo=1;x"),
     Store("10.0.0.1", "/x", mount_options="nolock=1")],
)  # fmt: skip
def test_an_invalid_store_is_rejected(store: Store) -> None:
    with pytest.raises(TransferError) as refused:
        mount.require_store(store)
    assert refused.value.code is TransferFailure.REQUEST_INVALID


@pytest.mark.parametrize(
    ("output", "message", "hint"),
    [
        (
            "mount.nfs: access denied by server while mounting 10.12.0.2:/x",
            "refuses access",
            "no_root_squash",
        ),
        (
            "mount.nfs: mounting 10.12.0.2:/x failed, reason given by server: No such file or directory",
            "does not export this path",
            "URL of the store",
        ),
        ("mount.nfs: Connection refused", "refuses the connection", "start the NFS service"),
        ("mount.nfs: No route to host", "no route", "eth3"),
        ("mount.nfs: Connection timed out", "does not answer", "firewall"),
        ("mount.nfs: Protocol not supported", "does not support this NFS version", "nfsversion"),
        ("mount: /mnt/x: unknown filesystem type 'nfs'.", "no NFS client", "use a kernel with an NFS client"),
        (
            "mount.nfs: an error of a later release",
            "mount exited with status 32",
            "journal of systemvm-mount",
        ),
    ],
)
def test_an_error_of_mount_is_explained_and_only_logged_in_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, output: str, message: str, hint: str
) -> None:
    program = tmp_path / "mount"
    program.write_text(f'#!/bin/sh\necho "{output}" >&2\nexit 32\n')
    program.chmod(0o755)
    with pytest.raises(TransferError) as refused:
        mount.run_mount([str(program), "10.12.0.2:/x", "/mnt/x"])
    assert refused.value.code is (
        TransferFailure.STORE_REFUSES if "access denied" in output else TransferFailure.MOUNT_FAILED
    )
    assert refused.value.message.startswith("10.12.0.2:/x cannot be mounted: ")
    assert message in refused.value.message
    assert output not in refused.value.message
    assert output in caplog.text
    assert hint in refused.value.hint


MOUNTINFO = """22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
90 22 0:50 / /mnt/SecStorage/a rw shared:2 - nfs4 10.12.0.2:/export/secondary rw,vers=4.2,soft
91 22 0:51 / /mnt/with\\040blank rw - tmpfs tmp\\040fs rw
"""


def test_a_mount_is_found_by_its_directory() -> None:
    found = find_mount(MOUNTINFO, Path("/mnt/SecStorage/a"))
    assert found == MountPoint("10.12.0.2:/export/secondary", "nfs4", "rw,vers=4.2,soft")
    assert find_mount(MOUNTINFO, Path("/mnt/with blank")) == MountPoint("tmp fs", "tmpfs", "rw")
    assert find_mount(MOUNTINFO, Path("/mnt")) is None


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "-x", "a\0", "ä", "a" * 65, "a b", "a\n"])
def test_a_path_is_not_a_name(text: str) -> None:
    for check in (require_name, require_mount_id):
        with pytest.raises(TransferError):
            check(text)


@pytest.mark.parametrize("number", [0, -1, 2**63])
def test_an_invalid_id_is_rejected(number: int) -> None:
    with pytest.raises(TransferError):
        require_number(number)
