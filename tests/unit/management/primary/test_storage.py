# SPDX-License-Identifier: Apache-2.0
"""Primary storage: a deletion waits for the copy in progress; a disk is durable before it has its name."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from systemvm.management.primary.qemu_img import QemuImg
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.state.status import Provisioning

VOLUME = "0f9d3c52-7a54-4f0b-8a86-1d1f3b0f2c11"
TEMPLATE = "6e25e5a4-51ab-4d4c-9f10-6a8bb1c2a3d4"


@pytest_twisted.ensureDeferred
async def test_deletion_and_copy_run_one_after_another(tmp_path: Path) -> None:
    primary = PrimaryStorage(tmp_path / "primary")
    primary.open()
    source = tmp_path / "boot.iso"
    source.write_bytes(b"iso" * 1000)
    copying = Deferred.fromCoroutine(primary.ensure_template(TEMPLATE, source, "iso"))
    deleting = Deferred.fromCoroutine(primary.delete_template(TEMPLATE))
    path = await copying
    await deleting
    assert not path.exists()
    deleting = Deferred.fromCoroutine(primary.delete_template(TEMPLATE))
    again = Deferred.fromCoroutine(primary.ensure_template(TEMPLATE, source, "iso"))
    await deleting
    assert (await again).read_bytes() == source.read_bytes()
    await primary.delete_template(TEMPLATE)
    await primary.delete_template(TEMPLATE)
    assert list((tmp_path / "primary/templates").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_deleted_disk_leaves_nothing_that_a_killed_daemon_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, written = PrimaryStorage(tmp_path), []

    async def create(_: QemuImg, path: Path, *__: Any) -> None:
        written.append(path)
        await deferToThread(path.touch)

    monkeypatch.setattr(QemuImg, "create_empty", create)
    primary.open()
    path = await primary.create_empty(VOLUME, 1 << 20)
    [incomplete] = written
    incomplete.touch()
    await primary.delete_volume(VOLUME)
    assert (path.exists(), incomplete.exists()) == (False, False)


def test_what_another_host_writes_now_is_no_leftover(tmp_path: Path) -> None:
    volumes = tmp_path / "pool/volumes"
    volumes.mkdir(parents=True)
    fresh, old = volumes / ".a.qcow2.new", volumes / ".b.qcow2.new"
    for path in (fresh, old):
        path.touch()
    os.utime(old, (0, 0))
    PrimaryStorage(tmp_path / "pool").open(leftovers_age_s=3600)
    assert list(volumes.iterdir()) == [fresh]
    PrimaryStorage(tmp_path / "pool").open()
    assert list(volumes.iterdir()) == []


class WritingQemuImg(QemuImg):
    """Writes the disk itself: the program is not what is tested."""

    async def create_empty(
        self, path: Path, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> None:
        await deferToThread(path.touch)


@pytest_twisted.ensureDeferred
async def test_a_disk_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave a named disk without its header."""
    primary = PrimaryStorage(tmp_path, WritingQemuImg())
    primary.open()
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    path = await primary.create_empty(VOLUME, 1 << 30)
    assert synced == [f".{path.name}.new", "volumes"]
    assert path.stat().st_mode & 0o777 == 0o660


@pytest_twisted.ensureDeferred
async def test_the_reactor_never_waits_for_a_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs on a hard mount would stop the whole daemon."""
    primary = PrimaryStorage(tmp_path / "primary", WritingQemuImg())
    primary.open()
    source = tmp_path / "boot.iso"
    source.touch()
    called: list[tuple[str, bool]] = []

    def note(name: str) -> None:
        real = getattr(Path, name)

        def noted(path: Path, *arguments: Any, **named: Any) -> Any:
            called.append((name, threading.current_thread() is threading.main_thread()))
            return real(path, *arguments, **named)

        monkeypatch.setattr(Path, name, noted)

    for name in ("exists", "unlink", "touch", "stat"):
        note(name)
    await primary.ensure_template(TEMPLATE, source, "iso")
    await primary.create_empty(VOLUME, 1 << 30)
    assert {"exists", "unlink"} <= {name for name, _ in called}
    assert [name for name, is_reactor in called if is_reactor] == []
