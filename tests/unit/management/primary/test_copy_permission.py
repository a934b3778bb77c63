# SPDX-License-Identifier: Apache-2.0
"""Copies of templates that are refused: what is being written ends, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from held_copy import HeldCopy
from systemvm.management.primary.qemu_img import DiskSource, PrimaryStorageError, QemuImg
from systemvm.management.primary.storage import PrimaryStorage, TemplateFormat

TEMPLATE = "6e25e5a4-51ab-4d4c-9f10-6a8bb1c2a3d4"
MIB = 1 << 20


class HeldConversion(QemuImg):
    """Begins to write, and waits until the test ends it: the program is not what is tested."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: Deferred[None] = Deferred()
        self.ends: Deferred[None] = Deferred()

    async def convert(self, source: DiskSource, target: Path) -> None:
        await deferToThread(target.write_bytes, b"a part")
        reactor.callLater(0, self.begun.callback, None)  # when this waits
        await self.ends


def refusal() -> PrimaryStorageError:
    return PrimaryStorageError("storage pool shared is in the state PrepareForMaintenance")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"data" * MIB)
    return path


@pytest.fixture
def qemu_img() -> HeldConversion:
    return HeldConversion()


@pytest.fixture
def primary(tmp_path: Path, qemu_img: HeldConversion) -> PrimaryStorage:
    storage = PrimaryStorage(tmp_path / "primary", qemu_img)
    storage.open()
    return storage


@pytest.fixture
def copy(primary: PrimaryStorage, source: Path) -> Callable[[TemplateFormat], Deferred[Path]]:
    return lambda kind: Deferred.fromCoroutine(primary.ensure_template(TEMPLATE, source, kind))


Copy = Callable[[TemplateFormat], "Deferred[Path]"]


def written(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "primary/templates").iterdir()]


@pytest_twisted.ensureDeferred
async def test_a_copy_ends_when_copies_are_refused(
    tmp_path: Path, primary: PrimaryStorage, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldCopy(monkeypatch)
    copying = copy("raw")
    await held.begun()
    assert len(written(tmp_path)) == 1
    waiting = copy("raw")
    primary.copying.refuse(refusal)
    held.go_on()
    for each in (copying, waiting, copy("raw")):
        with pytest.raises(PrimaryStorageError, match="PrepareForMaintenance"):
            await each
    assert written(tmp_path) == []
    primary.copying.permit()
    path = await copy("raw")
    assert path.stat().st_size == 4 * MIB
    primary.copying.refuse(refusal)
    assert await copy("raw") == path, "it is there already"


@pytest.mark.parametrize("is_permitted_again", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_conversion_ends_when_copies_are_refused(
    tmp_path: Path, primary: PrimaryStorage, qemu_img: HeldConversion, copy: Copy, is_permitted_again: bool
) -> None:
    copying = copy("vmdk")
    await qemu_img.begun
    assert len(written(tmp_path)) == 1
    primary.copying.refuse(refusal)
    if is_permitted_again:
        primary.copying.permit()
    with pytest.raises(PrimaryStorageError, match="PrepareForMaintenance"):
        await copying
    assert written(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_conversion_that_the_end_of_the_daemon_cancels_has_no_reason(
    tmp_path: Path, qemu_img: HeldConversion, copy: Copy
) -> None:
    copying = copy("vmdk")
    await qemu_img.begun
    copying.cancel()
    with pytest.raises(CancelledError):
        await copying
    assert written(tmp_path) == []
