# SPDX-License-Identifier: Apache-2.0
"""Imports of system images: verified, read-only and atomic."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import pytest_twisted

from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.primary.system_images import SystemImages


def build(directory: Path, **changes: object) -> Path:
    """Make the files of a small image build."""
    directory.mkdir(exist_ok=True)
    files = {
        "ssvm.qcow2": b"disk" * 1000 + bytes(3 << 20),
        "ssvm.vmlinuz": b"kernel",
        "ssvm.initrd": b"initrd",
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    manifest = {
        "role": "ssvm",
        "version": "0.1.0",
        "arch": "amd64",
        "disk": "ssvm.qcow2",
        "kernel": "ssvm.vmlinuz",
        "initrd": "ssvm.initrd",
        "append": "root=/dev/vda1 ro",
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "root_sha256": "0" * 64,
        **changes,
    }
    path = directory / "ssvm.manifest.json"
    path.write_text(json.dumps(manifest))
    return path


@pytest_twisted.ensureDeferred
async def test_an_image_is_one_read_only_directory_named_by_its_manifest(tmp_path: Path) -> None:
    manifest = build(tmp_path / "build")
    images = SystemImages(tmp_path / "images")
    image = await images.import_image(manifest)
    assert image.sha256 == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert image.disk.read_bytes() == (tmp_path / "build/ssvm.qcow2").read_bytes()
    assert image.disk.stat().st_blocks * 512 < 2 << 20, "zeros are holes"
    assert {oct(path.stat().st_mode & 0o777) for path in image.directory.iterdir()} == {"0o444"}
    assert images.get(image.sha256) == image
    assert images.all() == [image]


@pytest_twisted.ensureDeferred
async def test_a_second_import_copies_nothing(tmp_path: Path) -> None:
    manifest = build(tmp_path / "build")
    images = SystemImages(tmp_path / "images")
    first = await images.import_image(manifest)
    (tmp_path / "build/ssvm.qcow2").unlink()
    assert await images.import_image(manifest) == first


@pytest_twisted.ensureDeferred
async def test_new_build_is_stored_beside_the_old_one(tmp_path: Path) -> None:
    images = SystemImages(tmp_path / "images")
    old = await images.import_image(build(tmp_path / "build"))
    new = await images.import_image(build(tmp_path / "build", version="0.2.0"))
    assert old.sha256 != new.sha256
    assert {image.version for image in images.all()} == {"0.1.0", "0.2.0"}
    images.remove(old.sha256)
    assert images.all() == [new]


@pytest_twisted.ensureDeferred
async def test_a_wrong_hash_leaves_nothing(tmp_path: Path) -> None:
    manifest = build(tmp_path / "build")
    (tmp_path / "build/ssvm.initrd").write_bytes(b"tampered")
    images = SystemImages(tmp_path / "images")
    with pytest.raises(PrimaryStorageError, match=r"ssvm\.initrd does not match its manifest"):
        await images.import_image(manifest)
    assert list((tmp_path / "images").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    manifest = build(tmp_path / "build", kernel="../../etc/shadow")
    with pytest.raises(PrimaryStorageError, match="not a plain file name"):
        await SystemImages(tmp_path / "images").import_image(manifest)


@pytest_twisted.ensureDeferred
async def test_a_file_without_a_hash_is_refused(tmp_path: Path) -> None:
    manifest = build(tmp_path / "build", sha256={})
    with pytest.raises(PrimaryStorageError, match=r"has no sha256 of ssvm\.qcow2"):
        await SystemImages(tmp_path / "images").import_image(manifest)


@pytest_twisted.ensureDeferred
async def test_missing_build_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(PrimaryStorageError, match='run "make images"'):
        await SystemImages(tmp_path / "images").import_image(tmp_path / "no.manifest.json")


@pytest.mark.parametrize("name", ["", "..", "a" * 63, "../" + "a" * 61])
def test_image_is_found_only_by_its_hash(tmp_path: Path, name: str) -> None:
    with pytest.raises(PrimaryStorageError, match="not the name of an image"):
        SystemImages(tmp_path).get(name)
