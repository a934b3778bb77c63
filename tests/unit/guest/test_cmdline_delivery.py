# SPDX-License-Identifier: Apache-2.0
"""Waiting for the boot arguments that a host writes through qemu-guest-agent."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from systemvm.guest import cmdline_delivery
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths
from systemvm.wire.boot_failure import BootFailure


@pytest.fixture
def paths(tmp_path: Path) -> GuestPaths:
    """Return the files of a machine whose guest agent has its port."""
    paths = GuestPaths(tmp_path)
    port = paths.root / "sys/class/virtio-ports/vport1p1"
    port.mkdir(parents=True)
    (port / "name").write_text(cmdline_delivery.PORT + "\n")
    (paths.root / "dev/virtio-ports").mkdir(parents=True)
    (paths.root / "dev/virtio-ports" / cmdline_delivery.PORT).touch()
    return paths


def test_the_file_is_created_with_mode_0600_before_it_is_written(paths: GuestPaths) -> None:
    modes: list[int] = []
    waits_s: list[float] = []

    def host_writes() -> None:
        # like qemu-ga, which opens, writes and closes the existing file
        with paths.cmdline.open("w") as file:
            modes.append(stat.S_IMODE(paths.cmdline.stat().st_mode))
            file.write("type=secstorage name=s-1-VM")

    assert (
        cmdline_delivery.receive(paths, host_writes, lambda text, wait_s: waits_s.append(wait_s))
        == "type=secstorage name=s-1-VM"
    )
    assert modes == [0o600]
    assert waits_s == [60.0]


def test_an_incomplete_file_is_not_read(paths: GuestPaths) -> None:
    with pytest.raises(BootError, match="was not written") as raised:
        cmdline_delivery.receive(paths, lambda: None, lambda *_: None, timeout_s=0.01)
    assert raised.value.code is BootFailure.NO_BOOT_ARGUMENTS
    assert "guest-file-open" in raised.value.hint
    with cmdline_delivery._ClosedFileWatch(paths.cache) as closings, paths.cmdline.open("w") as file:
        file.write("type=secsto")
        file.flush()
        assert closings.within(0) == set()
        file.close()
        assert closings.within(5) == {"cmdline"}


def test_an_empty_write_is_ignored(paths: GuestPaths) -> None:
    def write_nothing() -> None:
        paths.cmdline.write_text("")

    with pytest.raises(BootError, match="was not written"):
        cmdline_delivery.receive(paths, write_nothing, lambda *_: None, timeout_s=0.01)


def test_a_machine_without_the_port_does_not_wait(tmp_path: Path) -> None:
    waits_s: list[float] = []
    with pytest.raises(BootError, match="neither the systemd credential"):
        cmdline_delivery.receive(
            GuestPaths(tmp_path), lambda: None, lambda text, wait_s: waits_s.append(wait_s)
        )
    assert waits_s == []


def test_a_credential_is_read_without_a_wait(paths: GuestPaths, tmp_path: Path) -> None:
    (tmp_path / "systemvm.cmdline").write_text("type=consoleproxy")
    given = GuestPaths(paths.root, tmp_path)
    assert (
        cmdline_delivery.receive(given, lambda: pytest.fail("started"), lambda *_: pytest.fail("waits"))
        == "type=consoleproxy"
    )


def test_a_slow_machine_waits_longer_than_cloudstack(
    paths: GuestPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cmdline_delivery, "WAIT_S", 0.01)
    monkeypatch.setattr(cmdline_delivery, "scaled_s", lambda timeout_s: 4.0 * timeout_s)
    waits_s: list[float] = []
    began_s = time.monotonic()
    with pytest.raises(BootError, match="was not written"):
        cmdline_delivery.receive(paths, lambda: None, lambda text, wait_s: waits_s.append(wait_s))
    assert time.monotonic() - began_s >= 0.04
