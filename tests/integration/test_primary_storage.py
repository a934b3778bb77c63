# SPDX-License-Identifier: Apache-2.0
"""Primary storage with the real qemu-img."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from systemvm.management.child_process import ProcessLimits
from systemvm.management.primary import atomic_copy
from systemvm.management.primary import qemu_img as qemu_img_module
from systemvm.management.primary.qemu_img import DiskFormat, PrimaryStorageError
from systemvm.management.primary.storage import PrimaryStorage, TemplateFormat
from systemvm.management.state.status import Provisioning

pytestmark = pytest.mark.timeout(60)

TEMPLATE = str(uuid.UUID(int=1))
VOLUME = str(uuid.UUID(int=2))


def qemu_img(*arguments: str | Path) -> str:
    return subprocess.run(
        ["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True
    ).stdout


def qemu_io(path: Path, command: str) -> str:
    return subprocess.run(
        ["qemu-io", "-c", command, str(path)], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def primary(tmp_path: Path) -> PrimaryStorage:
    storage = PrimaryStorage(tmp_path / "primary")
    storage.open()
    return storage


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    qemu_io(path, "write -q -P 0x5a 1M 1M")
    return path


@pytest_twisted.ensureDeferred
async def test_a_clone_reads_its_template_and_does_not_change_it(
    primary: PrimaryStorage, template: Path
) -> None:
    copy = await primary.ensure_template(TEMPLATE, template, "qcow2")
    before = copy.read_bytes()
    clone = await primary.create_clone(VOLUME, copy, "qcow2")
    assert "Pattern verification failed" not in qemu_io(clone, "read -P 0x5a 1M 1M")
    qemu_io(clone, "write -q -P 0x11 1M 1M")
    assert copy.read_bytes() == before
    assert oct(copy.stat().st_mode & 0o777) == "0o444"
    info = json.loads(qemu_img("info", "--output=json", clone))
    assert info["backing-filename"] == str(copy)
    assert info["backing-filename-format"] == "qcow2"
    await primary.delete_volume(VOLUME)
    await primary.delete_volume(VOLUME)
    assert not clone.exists()


@pytest_twisted.ensureDeferred
async def test_a_clone_that_is_moved_to_another_pool_needs_its_template_no_more(
    primary: PrimaryStorage, template: Path, tmp_path: Path
) -> None:
    other = PrimaryStorage(tmp_path / "other")
    other.open()
    copy = await primary.ensure_template(TEMPLATE, template, "qcow2")
    clone = await primary.create_clone(VOLUME, copy, "qcow2")
    qemu_io(clone, "write -q -P 0x11 2M 1M")
    size_bytes = await primary.volume_size_bytes(VOLUME)
    moved = await other.import_volume(VOLUME, clone, "qcow2", size_bytes)
    await primary.delete_volume(VOLUME)
    await primary.delete_template(TEMPLATE)
    info = json.loads(qemu_img("info", "--output=json", moved))
    assert ("backing-filename" in info, info["virtual-size"]) == (False, 64 << 20)
    for pattern, place in (("0x5a", "1M"), ("0x11", "2M")):
        assert "Pattern verification failed" not in qemu_io(moved, f"read -P {pattern} {place} 1M")


@pytest_twisted.ensureDeferred
async def test_a_base_that_was_removed_is_known_and_made_again(
    primary: PrimaryStorage, template: Path
) -> None:
    copy = await primary.ensure_template(TEMPLATE, template, "qcow2")
    clone = await primary.create_clone(VOLUME, copy, "qcow2")
    qemu_io(clone, "write -q -P 0x11 2M 1M")
    copy.unlink()
    assert await primary.base_of(VOLUME) == copy
    assert await primary.ensure_template(TEMPLATE, template, "qcow2") == copy
    for pattern, place in (("0x5a", "1M"), ("0x11", "2M")):
        assert "Pattern verification failed" not in qemu_io(clone, f"read -P {pattern} {place} 1M")
    await primary.import_volume(VOLUME, clone, "qcow2", None)
    assert await primary.base_of(VOLUME) is None


def allocated_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


SIZE_BYTES = 96 << 20


@pytest.mark.parametrize(
    ("provisioning", "least_bytes", "most_bytes"),
    [
        # the tables of 96 MiB take one cluster of 64 KiB each
        (Provisioning.SPARSE, 1 << 20, 4 << 20),
        (Provisioning.FAT, SIZE_BYTES, SIZE_BYTES + (2 << 20)),
    ],
)
@pytest.mark.parametrize("source_format", ["qcow2", "raw"])
@pytest_twisted.ensureDeferred
async def test_a_full_copy_needs_no_template_and_takes_space_as_its_offering_says(
    primary: PrimaryStorage,
    template: Path,
    tmp_path: Path,
    provisioning: Provisioning,
    least_bytes: int,
    most_bytes: int,
    source_format: DiskFormat,
) -> None:
    if source_format == "raw":
        raw = tmp_path / "template.raw"
        qemu_img("convert", "-O", "raw", template, raw)
        template = raw
    copy = await primary.ensure_template(TEMPLATE, template, source_format)
    disk = await primary.import_volume(VOLUME, copy, source_format, SIZE_BYTES, provisioning)
    await primary.delete_template(TEMPLATE)
    info = json.loads(qemu_img("info", "--output=json", disk))
    assert ("backing-filename" in info, info["virtual-size"]) == (False, SIZE_BYTES)
    assert least_bytes <= allocated_bytes(disk) <= most_bytes
    assert "Pattern verification failed" not in qemu_io(disk, "read -P 0x5a 1M 1M")
    assert "Pattern verification failed" not in qemu_io(disk, "read -P 0 2M 94M")
    qemu_img("check", "-q", disk)


@pytest_twisted.ensureDeferred
async def test_an_empty_disk_takes_space_as_its_offering_says(primary: PrimaryStorage) -> None:
    taken = {}
    for provisioning in Provisioning:
        disk = await primary.create_empty(VOLUME, SIZE_BYTES, provisioning)
        assert json.loads(qemu_img("info", "--output=json", disk))["virtual-size"] == SIZE_BYTES
        assert "Pattern verification failed" not in qemu_io(disk, f"read -P 0 0 {SIZE_BYTES}")
        taken[provisioning] = allocated_bytes(disk)
    assert taken[Provisioning.THIN] <= taken[Provisioning.SPARSE] < 2 << 20
    assert taken[Provisioning.FAT] >= SIZE_BYTES


@pytest_twisted.ensureDeferred
async def test_a_snapshot_is_restored_to_a_disk_that_has_its_space(
    primary: PrimaryStorage, template: Path
) -> None:
    disk = await primary.restore_volume(VOLUME, [template], SIZE_BYTES, Provisioning.FAT)
    assert json.loads(qemu_img("info", "--output=json", disk))["virtual-size"] == SIZE_BYTES
    assert "Pattern verification failed" not in qemu_io(disk, "read -P 0x5a 1M 1M")
    assert allocated_bytes(disk) >= SIZE_BYTES


@pytest_twisted.ensureDeferred
async def test_a_raw_template_stays_raw_for_its_clones(primary: PrimaryStorage, tmp_path: Path) -> None:
    """A raw disk whose guest wrote a qcow2 header into it must not be opened as one."""
    source = tmp_path / "disk.raw"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", source)
    os.truncate(source, 1 << 20)
    copy = await primary.ensure_template(TEMPLATE, source, "raw")
    clone = await primary.create_clone(VOLUME, copy, "raw")
    info = json.loads(qemu_img("info", "--output=json", clone))
    assert info["backing-filename-format"] == "raw"
    assert info["virtual-size"] == 1 << 20


@pytest_twisted.ensureDeferred
async def test_a_clone_can_be_larger_and_is_never_smaller(primary: PrimaryStorage, template: Path) -> None:
    copy = await primary.ensure_template(TEMPLATE, template, "qcow2")
    for requested, expected in ((1 << 20, 64 << 20), (128 << 20, 128 << 20)):
        clone = await primary.create_clone(VOLUME, copy, "qcow2", requested)
        assert json.loads(qemu_img("info", "--output=json", clone))["virtual-size"] == expected


@pytest_twisted.ensureDeferred
async def test_concurrent_requests_copy_a_template_once(
    primary: PrimaryStorage, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    real = atomic_copy.copy

    def counting(source: Path, *arguments: Any) -> str:
        copies.append(source)
        return real(source, *arguments)

    monkeypatch.setattr(atomic_copy, "copy", counting)
    waiting = [Deferred.fromCoroutine(primary.ensure_template(TEMPLATE, template, "qcow2")) for _ in range(5)]
    paths = await gatherResults(waiting)
    assert len(set(paths)) == 1
    assert len(copies) == 1
    gone = template.with_name("gone")
    assert await primary.ensure_template(TEMPLATE, gone, "qcow2") == paths[0]


@pytest.mark.parametrize("option", ["backing", "data_file"])
@pytest_twisted.ensureDeferred
async def test_a_template_that_leads_to_another_file_is_refused(
    primary: PrimaryStorage, tmp_path: Path, option: str
) -> None:
    source = tmp_path / "evil.qcow2"
    if option == "backing":
        qemu_img("create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", source)
    else:
        qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", source, "1M")
    with pytest.raises(PrimaryStorageError, match="depends on another file"):
        await primary.ensure_template(TEMPLATE, source, "qcow2")
    assert list((tmp_path / "primary/templates").iterdir()) == []


CONVERTED = {
    "vhd": ("vpc", "subformat=dynamic,force_size=on"),
    "fixed vhd": ("vpc", "subformat=fixed,force_size=on"),
    "vhdx": ("vhdx", "subformat=dynamic"),
    "vmdk": ("vmdk", "subformat=monolithicSparse"),
    "stream vmdk": ("vmdk", "subformat=streamOptimized"),
}


def foreign_disk(tmp_path: Path, name: str) -> tuple[Path, Path]:
    """Return a disk of 8 MiB in a format that clones cannot have as a backing file, and the same as raw."""
    raw, disk = tmp_path / "disk.raw", tmp_path / f"a,b={name}"
    raw.write_bytes(os.urandom(1 << 20))
    os.truncate(raw, 8 << 20)
    disk_format, options = CONVERTED[name]
    qemu_img("convert", "-f", "raw", "-O", disk_format, "-o", options, raw, disk)
    return disk, raw


@pytest.mark.parametrize("name", CONVERTED)
@pytest_twisted.ensureDeferred
async def test_a_disk_that_cannot_be_a_backing_file_is_converted_once(
    primary: PrimaryStorage, tmp_path: Path, name: str
) -> None:
    disk, raw = foreign_disk(tmp_path, name)
    template_format: TemplateFormat = "vhd" if "vhd" in name and name != "vhdx" else "vmdk"
    if name == "vhdx":
        template_format = "vhdx"
    copy = await primary.ensure_template(TEMPLATE, disk, template_format)
    disk.unlink()
    assert await primary.ensure_template(TEMPLATE, disk, template_format) == copy
    qemu_img("compare", "-f", "qcow2", "-F", "raw", copy, raw)
    assert oct(copy.stat().st_mode & 0o777) == "0o444"
    clone = await primary.create_clone(VOLUME, copy, "qcow2")
    qemu_img("compare", "-f", "qcow2", "-F", "raw", clone, raw)
    await primary.delete_template(TEMPLATE)
    assert list((tmp_path / "primary/templates").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_the_threads_of_a_conversion_do_not_use_up_its_address_space(
    primary: PrimaryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed disk is read by many threads; with an arena of glibc each, 300 MiB are never enough."""
    monkeypatch.setattr(qemu_img_module, "_LIMITS", ProcessLimits(address_space_bytes=300 << 20))
    disk, raw = foreign_disk(tmp_path, "stream vmdk")
    copy = await primary.ensure_template(TEMPLATE, disk, "vmdk")
    qemu_img("compare", "-f", "qcow2", "-F", "raw", copy, raw)


@pytest.mark.parametrize("name", CONVERTED)
@pytest_twisted.ensureDeferred
async def test_the_disk_of_an_ova_is_converted_where_it_is(
    primary: PrimaryStorage, tmp_path: Path, name: str
) -> None:
    disk, raw = foreign_disk(tmp_path, name)
    archive = tmp_path / "a.ova"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as members:
        members.add(raw, "first.nvram")
        members.add(disk, f"disk.{name.split()[-1]}")
    copy = await primary.ensure_template(TEMPLATE, archive, "ova")
    qemu_img("compare", "-f", "qcow2", "-F", "raw", copy, raw)


@pytest.mark.parametrize("names", [[], ["a.vmdk", "b.vhd"], ["a.vdi"]], ids=len)
@pytest_twisted.ensureDeferred
async def test_an_ova_with_other_than_one_disk_is_refused(
    primary: PrimaryStorage, tmp_path: Path, names: list[str]
) -> None:
    archive = tmp_path / "a.ova"
    with tarfile.open(archive, "w") as members:
        for name in ["a.ovf", *names]:
            members.addfile(tarfile.TarInfo(name))
    with pytest.raises(PrimaryStorageError, match=r"has \d disks instead of one"):
        await primary.ensure_template(TEMPLATE, archive, "ova")


@pytest.mark.parametrize("kind", ["flat", "sparse"])
@pytest_twisted.ensureDeferred
async def test_a_vmdk_that_leads_to_another_file_is_never_converted(
    primary: PrimaryStorage, tmp_path: Path, kind: str
) -> None:
    """One that was replaced on the store since the SSVM had inspected it."""
    if kind == "flat":
        extent = 'RW 2 FLAT "/etc/passwd" 0'
    else:
        qemu_img("create", "-q", "-f", "vmdk", tmp_path / "secret.vmdk", "1M")
        extent = f'RW 2048 SPARSE "{tmp_path / "secret.vmdk"}"'
    source = tmp_path / "evil.vmdk"
    create_type = "monolithicFlat" if kind == "flat" else "twoGbMaxExtentSparse"
    source.write_text(
        f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="{create_type}"\n{extent}\n'
    )
    # the first where the kernel has no Landlock: there QEMU opens the other file before it is refused
    with pytest.raises(PrimaryStorageError, match=r"depends on another file|Permission denied"):
        await primary.ensure_template(TEMPLATE, source, "vmdk")
    assert list((tmp_path / "primary/templates").iterdir()) == []


@pytest.mark.parametrize("template_format", ["vhd", "vhdx", "vmdk", "ova"])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_converted_leaves_nothing(
    primary: PrimaryStorage, tmp_path: Path, template_format: TemplateFormat
) -> None:
    source = tmp_path / "damaged"
    source.write_bytes(b"no image" * 1000)
    with pytest.raises(PrimaryStorageError):
        await primary.ensure_template(TEMPLATE, source, template_format)
    assert list((tmp_path / "primary/templates").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_lost_store_is_an_error_with_a_hint(primary: PrimaryStorage, tmp_path: Path) -> None:
    with pytest.raises(PrimaryStorageError, match="check that the store is mounted"):
        await primary.ensure_template(TEMPLATE, tmp_path / "gone.iso", "iso")
    for template_format in get_args(TemplateFormat)[3:]:
        with pytest.raises(PrimaryStorageError, match="check that the store is mounted"):
            await primary.ensure_template(TEMPLATE, tmp_path / "gone", template_format)
    assert list((tmp_path / "primary/templates").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_an_iso_is_copied_unchanged(primary: PrimaryStorage, tmp_path: Path) -> None:
    source = tmp_path / "boot.iso"
    source.write_bytes(os.urandom(3 << 20))
    copy = await primary.ensure_template(TEMPLATE, source, "iso")
    assert copy.read_bytes() == source.read_bytes()
    await primary.delete_template(TEMPLATE)
    assert not copy.exists()


@pytest_twisted.ensureDeferred
async def test_qemu_imgs_message_is_in_the_error(primary: PrimaryStorage, tmp_path: Path) -> None:
    source = tmp_path / "no.qcow2"
    source.write_bytes(b"not an image at all")
    with pytest.raises(PrimaryStorageError, match="not in qcow2 format"):
        await primary.ensure_template(TEMPLATE, source, "qcow2")


def test_an_unfinished_copy_of_a_killed_daemon_is_removed(tmp_path: Path) -> None:
    storage = PrimaryStorage(tmp_path)
    storage.open()
    leftover = tmp_path / "templates" / f".{TEMPLATE}.qcow2.4711.new"
    leftover.write_bytes(b"half")
    storage.open()
    assert not leftover.exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "x"])
def test_names_are_uuids(primary: PrimaryStorage, name: str) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        primary.volume_path(name)


@pytest.fixture
def small_primary(tmp_path: Path) -> Iterator[PrimaryStorage]:
    """Return primary storage on a disk of 4 MiB with 128 KiB free."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", directory], check=True)
    try:
        storage = PrimaryStorage(directory / "primary")
        storage.open()
        (directory / "others").write_bytes(b"x" * ((4 << 20) - (128 << 10)))
        yield storage
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.netns
@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_reported(small_primary: PrimaryStorage, template: Path, tmp_path: Path) -> None:
    """Both a copied template and qemu-img fail; qemu-img reports the cause only as text."""
    vmdk = tmp_path / "template.vmdk"
    qemu_img("convert", "-f", "qcow2", "-O", "vmdk", template, vmdk)
    for attempt in (
        lambda: small_primary.ensure_template(TEMPLATE, template, "qcow2"),
        lambda: small_primary.ensure_template(TEMPLATE, vmdk, "vmdk"),
        lambda: small_primary.create_clone(VOLUME, template, "qcow2"),
        lambda: small_primary.create_empty(VOLUME, 1 << 30),
    ):
        with pytest.raises(PrimaryStorageError) as full:
            await attempt()
        assert f"the disk of {tmp_path / 'small' / 'primary'}" in full.value.message
        assert "is full" in full.value.message
        assert "df -h" in full.value.hint
    assert [path.name for path in (tmp_path / "small" / "primary").rglob("*") if path.is_file()] == []
