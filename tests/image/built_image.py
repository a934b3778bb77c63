# SPDX-License-Identifier: Apache-2.0
"""Unpacks a built image by debugfs, without a mount, with owners and modes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import testinfra
import yaml
from attrs import frozen
from testinfra.host import Host

TOP = Path(__file__).resolve().parents[2]
IMAGES = TOP / "build/images"
UNPACKED = TOP / "build/unpacked"

if str(TOP / "packer") not in sys.path:
    sys.path.insert(0, str(TOP / "packer"))
from image_files import unpack  # noqa: E402


@frozen
class BuiltImage:
    """One role's files in build/images, and the image's content."""

    role: str
    root: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, role: str) -> BuiltImage:
        manifest = json.loads((IMAGES / f"{role}.manifest.json").read_text())
        root = UNPACKED / role
        _unpack(IMAGES / manifest["disk"], root, manifest["sha256"][manifest["disk"]])
        return cls(role, root, manifest)

    @property
    def host(self) -> Host:
        """Testinfra's chroot backend."""
        return testinfra.get_host(str(self.root), connection="chroot")

    @property
    def lib(self) -> Path:
        found: Path = self.root / "opt/systemvm" / self.manifest["version"] / "lib"
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """The role's appliance.yaml."""
        found: dict[str, Any] = yaml.safe_load(
            (TOP / "appliances" / self.role / "appliance.yaml").read_text()
        )
        return found

    def file(self, name: str) -> Path:
        return IMAGES / f"{self.role}.{name}"


def _unpack(image: Path, root: Path, sha256: str) -> None:
    """Unpack the image, in about two seconds; the result is kept until the image changes."""
    mark = root.with_suffix(".sha256")
    if mark.exists() and mark.read_text() == sha256:
        return
    unpack(image, root)
    mark.write_text(sha256)
