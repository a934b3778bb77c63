# SPDX-License-Identifier: Apache-2.0
"""Unpacks stock noVNC from the package pinned by npm's lock: only its ES modules and licence."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

KEPT = ("core/", "vendor/", "LICENSE.txt", "AUTHORS", "package.json")


def unpack(package: Path, destination: Path) -> None:
    """Unpack npm's tar to `destination`, which is replaced.

    Raises: SystemExit when it contains anything but plain files, because the console serves only these.
    """
    shutil.rmtree(destination, ignore_errors=True)
    with tarfile.open(package) as tar:
        for member in tar:
            name = member.name.removeprefix("package/")
            if member.isdir() or not name.startswith(KEPT):
                continue
            path = (destination / name).resolve()
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None or not path.is_relative_to(destination.resolve()):
                raise SystemExit(
                    f"error: package of noVNC contains something other than a plain file: {member.name}"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream.read())
    for path in destination.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
