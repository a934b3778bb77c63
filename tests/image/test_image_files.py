# SPDX-License-Identifier: Apache-2.0
"""The files of `make images` in build/images are consistent with each other."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from image.built_image import IMAGES, BuiltImage

pytestmark = pytest.mark.image


def test_size_is_within_its_limit(image: BuiltImage) -> None:
    """The size is within the budget of appliance.yaml, which the build enforces, too."""
    import appliance

    assert image.file("qcow2").stat().st_size <= appliance.load(image.role).image_max_bytes <= 150_000_000


def test_qcow2_is_compressed_consistent_and_without_a_backing_file(image: BuiltImage) -> None:
    shown = subprocess.run(
        ["qemu-img", "info", "--output=json", image.file("qcow2")], capture_output=True, check=True
    )
    about = json.loads(shown.stdout)
    assert about["format"] == "qcow2"
    assert "backing-filename" not in about
    checked = subprocess.run(
        ["qemu-img", "check", "--output=json", image.file("qcow2")], capture_output=True, check=True
    )
    clusters = json.loads(checked.stdout)
    assert clusters["compressed-clusters"] > 0.9 * clusters["allocated-clusters"]


def test_manifest_names_every_file_with_its_hash(image: BuiltImage) -> None:
    for key in ("role", "version", "arch", "disk", "kernel", "initrd", "append", "root_sha256"):
        assert image.manifest[key]
    assert image.manifest["role"] == image.role
    for name, sha256 in image.manifest["sha256"].items():
        assert hashlib.sha256((IMAGES / name).read_bytes()).hexdigest() == sha256, name
    assert {image.manifest[key] for key in ("disk", "kernel", "initrd")} < set(image.manifest["sha256"])


def test_checksums_match() -> None:
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=IMAGES, check=True)


def test_exported_kernel_and_initrd_are_those_of_the_disk(image: BuiltImage) -> None:
    """Direct boot and GRUB start the same kernel with the same arguments."""
    for exported, inside in (("vmlinuz", "boot/vmlinuz"), ("initrd", "boot/initrd.img")):
        assert image.file(exported).read_bytes() == (image.root / inside).read_bytes()
    menu = (image.root / "boot/grub/grub.cfg").read_text()
    assert f"linux /boot/vmlinuz {image.manifest['append']}" in menu


def test_image_json_matches_the_manifest(image: BuiltImage) -> None:
    facts = json.loads((image.root / "etc/systemvm/image.json").read_text())
    assert facts["role"] == image.role
    assert facts["version"] == image.manifest["version"]
    assert facts["sha256"] == image.manifest["root_sha256"]
    release = (image.root / "etc/cloudstack-release").read_text()
    assert release.startswith(f"Cloudstack Release 4.22.0 systemvm {facts['version']} ")
