# SPDX-License-Identifier: Apache-2.0
"""System VM images: one read-only directory each, named by hash, so that a disk always has its kernel."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

import msgspec
from attrs import field, frozen
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.primary import atomic_copy
from systemvm.management.primary.qemu_img import PrimaryStorageError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@frozen
class ImageManifest:
    """`{role}.manifest.json` as the image build writes it; file names are relative to it."""

    role: str
    version: str
    arch: str
    disk: str
    kernel: str
    initrd: str
    append: str
    sha256: dict[str, str]
    root_sha256: str = ""


@frozen
class SystemImage:
    """An imported image."""

    sha256: str  # of the manifest, which contains the sha256 of every file
    manifest: ImageManifest
    directory: Path = field(repr=False)

    @property
    def role(self) -> str:
        return self.manifest.role

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def append(self) -> str:
        return self.manifest.append

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"


class SystemImages:
    """The directories `images/<sha256>/`."""

    _log = Logger()

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def import_image(self, manifest_path: Path) -> SystemImage:
        """Copy and verify an image, unless it exists already.

        Raises: PrimaryStorageError when a file is missing or differs from its manifest.
        """
        image: SystemImage = await deferToThread(self._import, manifest_path)
        return image

    def get(self, sha256: str) -> SystemImage:
        if not _SHA256.fullmatch(sha256):
            raise PrimaryStorageError(f"{sha256!r} is not the name of an image")
        directory = self._directory / sha256
        try:
            return SystemImage(sha256, _manifest((directory / "manifest.json").read_bytes()), directory)
        except FileNotFoundError as e:
            raise PrimaryStorageError(f"there is no system VM image {sha256}", "import it again") from e

    def all(self) -> list[SystemImage]:
        return [
            self.get(path.name) for path in sorted(self._directory.glob("*")) if _SHA256.fullmatch(path.name)
        ]

    def remove(self, sha256: str) -> None:
        """Remove an image that no disk is based on any more."""
        image = self.get(sha256)
        image.directory.chmod(0o755)
        shutil.rmtree(image.directory)

    def _import(self, manifest_path: Path) -> SystemImage:
        try:
            raw = manifest_path.read_bytes()
        except FileNotFoundError as e:
            raise PrimaryStorageError(f"{manifest_path} does not exist", 'run "make images"') from e
        manifest = _manifest(raw)
        sha256 = hashlib.sha256(raw).hexdigest()
        target = self._directory / sha256
        if target.is_dir():
            return SystemImage(sha256, manifest, target)
        self._directory.mkdir(parents=True, exist_ok=True)
        for leftover in self._directory.glob(".import-*"):
            shutil.rmtree(leftover)
        temporary = Path(tempfile.mkdtemp(prefix=".import-", dir=self._directory))
        try:
            files = {"disk.qcow2": manifest.disk, "vmlinuz": manifest.kernel, "initrd": manifest.initrd}
            for name, source_name in files.items():
                self._copy_verified(manifest, manifest_path.parent / source_name, temporary / name)
            (temporary / "manifest.json").write_bytes(raw)
            (temporary / "manifest.json").chmod(0o444)
            temporary.chmod(0o555)
            atomic_copy.sync_directory(temporary)
            temporary.rename(target)
            atomic_copy.sync_directory(self._directory)
        except BaseException:
            temporary.chmod(0o755)
            shutil.rmtree(temporary)
            raise
        self._log.info(
            "imported {role} image {version} ({sha256})",
            role=manifest.role,
            version=manifest.version,
            sha256=sha256,
        )
        return SystemImage(sha256, manifest, target)

    @staticmethod
    def _copy_verified(manifest: ImageManifest, source: Path, target: Path) -> None:
        expected = manifest.sha256.get(source.name)
        if expected is None:
            raise PrimaryStorageError(f"manifest has no sha256 of {source.name}", 'run "make images" again')
        try:
            got = atomic_copy.copy(source, target)
        except FileNotFoundError as e:
            raise PrimaryStorageError(f"{source} does not exist", 'run "make images"') from e
        if got != expected:
            raise PrimaryStorageError(
                f"{source} does not match its manifest: sha256 {got}, expected {expected}",
                'run "make images" again',
            )


def _manifest(raw: bytes) -> ImageManifest:
    try:
        manifest = msgspec.convert(msgspec.json.decode(raw), type=ImageManifest, strict=True)
    except msgspec.MsgspecError as e:
        raise PrimaryStorageError(f"manifest of an image is invalid: {e}") from e
    for name in (manifest.disk, manifest.kernel, manifest.initrd):
        if Path(name).name != name or not name:
            raise PrimaryStorageError(f"manifest of an image is invalid: {name!r} is not a plain file name")
    return manifest
