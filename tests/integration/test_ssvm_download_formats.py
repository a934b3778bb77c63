# SPDX-License-Identifier: Apache-2.0
"""Disks of other hypervisors on their whole way: downloaded, published as CloudStack does, and deployed."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from image_corpus import archives, vmdk
from integration.ssvm_lab import disk_images
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import GOOD, daemon, published
from integration.ssvm_lab.world import Builder, World
from systemvm.management.primary.storage import PrimaryStorage, TemplateFormat
from systemvm.ssvm.properties import java_properties
from systemvm.wire.storage import ImageFormat

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

__all__ = ["daemon"]  # a fixture

DISK_BYTES = 8 << 20
#: The file, its format, and what qemu-img makes it as.
IMAGES: dict[str, tuple[ImageFormat, TemplateFormat, str, str]] = {
    "dynamic.vhd": (ImageFormat.VHD, "vhd", "vpc", "subformat=dynamic,force_size=on"),
    "fixed.vhd": (ImageFormat.VHD, "vhd", "vpc", "subformat=fixed,force_size=on"),
    "disk.vhdx": (ImageFormat.VHDX, "vhdx", "vhdx", "subformat=dynamic"),
    "sparse.vmdk": (ImageFormat.VMDK, "vmdk", "vmdk", "subformat=monolithicSparse"),
    "stream.vmdk": (ImageFormat.VMDK, "vmdk", "vmdk", "subformat=streamOptimized"),
}

OVA: tuple[ImageFormat, TemplateFormat, str, str] = (ImageFormat.OVA, "ova", "", "")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory)) as built:
        raw = built.files / "disk.raw"
        raw.write_bytes(os.urandom(1 << 20))
        os.truncate(raw, DISK_BYTES)
        for name, (_, _, driver, options) in IMAGES.items():
            command = ["qemu-img", "convert", "-f", "raw", "-O", driver, "-o", options]
            subprocess.run([*command, raw, built.files / name], check=True, timeout=60)
        (built.files / "fixed.vhd.gz").write_bytes(gzip.compress((built.files / "fixed.vhd").read_bytes()))
        disk = (built.files / "stream.vmdk").read_bytes()
        members = [("vm.ovf", archives.descriptor(href="stream.vmdk")), ("stream.vmdk", disk)]
        (built.files / "vm.ova").write_bytes(
            archives.archive([*members, ("vm.mf", archives.manifest(members, "SHA1"))])
        )
        (built.files / "tree.tar").write_bytes(
            archives.archive([("etc/hostname", b"vm"), archives.special("bin", tarfile.SYMTYPE, "usr/bin")])
        )
        (built.files / "flat.vmdk").write_bytes(
            vmdk.embedded('RW 1 FLAT "/etc/passwd" 0').ljust(64 << 20, b"\1")
        )
        (built.files / "large.vmdk").write_bytes(vmdk.sparse(capacity=17 << 31).ljust(64 << 20, b"\1"))
        (built.files / "page.ova").write_bytes(b"<!DOCTYPE html>".ljust(64 << 20, b"\1"))
        (built.files / "backed.qcow2").write_bytes(disk_images.qcow2(backing="/etc/passwd"))
        yield built


def require_same(clone: Path, raw: Path) -> None:
    compare = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw"]
    subprocess.run([*compare, clone, raw], check=True, timeout=60)


@pytest.mark.parametrize("name", [*IMAGES, "fixed.vhd.gz", "vm.ova"])
@pytest_twisted.ensureDeferred
async def test_a_disk_of_another_hypervisor_is_published_and_deployed(
    world: World, daemon: Daemon, tmp_path: Path, name: str
) -> None:
    image_format, template_format, *_ = IMAGES.get(name.removesuffix(".gz"), OVA)
    status = await daemon.download(request(world, f"{GOOD}/{name}", image_format))
    image = published(world, status)
    served = world.files / name.removesuffix(".gz")
    assert image.read_bytes() == served.read_bytes()
    assert status.virtual_size_bytes == DISK_BYTES
    values = java_properties.parse((image.parent / "template.properties").read_text())
    extension = image_format.extension
    assert image.suffix == f".{extension}"
    assert {key: value for key, value in values.items() if key.startswith(extension)} == {
        extension: "true",
        f"{extension}.filename": image.name,
        f"{extension}.size": str(served.stat().st_size),
        f"{extension}.virtualsize": str(DISK_BYTES),
    }
    primary = PrimaryStorage(tmp_path / "primary")
    primary.open()
    copy = await primary.ensure_template(str(uuid.UUID(int=1)), image, template_format)
    clone = await primary.create_clone(str(uuid.UUID(int=2)), copy, "qcow2")
    require_same(clone, world.files / "disk.raw")


@pytest_twisted.ensureDeferred
async def test_an_archive_is_published_as_it_is(world: World, daemon: Daemon) -> None:
    image = published(world, await daemon.download(request(world, f"{GOOD}/tree.tar", ImageFormat.TAR)))
    assert image.read_bytes() == (world.files / "tree.tar").read_bytes()


@pytest.mark.parametrize(
    ("name", "image_format", "code"),
    [
        ("flat.vmdk", ImageFormat.VMDK, "format_unsafe"),
        ("large.vmdk", ImageFormat.VMDK, "too_large"),
        ("page.ova", ImageFormat.OVA, "format_mismatch"),
        ("backed.qcow2", ImageFormat.OVA, "format_mismatch"),
        ("dynamic.vhd", ImageFormat.VHDX, "format_mismatch"),
        ("sparse.vmdk", ImageFormat.TAR, "format_mismatch"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_image_that_is_refused_costs_little_and_leaves_nothing(
    world: World, daemon: Daemon, name: str, image_format: ImageFormat, code: str
) -> None:
    status = await daemon.download(request(world, f"{GOOD}/{name}", image_format))
    assert status.error is not None
    assert status.error.code == code
    assert status.received_bytes <= 16 << 20, "it was received to its end"
    assert world.job_directories() == []
    assert [path for path in (world.store / "template").rglob("*") if path.is_file()] == []
