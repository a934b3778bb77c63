# SPDX-License-Identifier: Apache-2.0
"""Stock noVNC out of the package that npm's lock pins: its ES modules and licence, nothing else."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

KEPT = ("core/", "vendor/", "LICENSE.txt", "AUTHORS", "package.json")


def unpack(package: Path, destination: Path) -> None:
    """Make `destination` anew from npm's tar.

    Raises SystemExit when it holds other than plain files: the console's front serves those alone.
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
                    f"error: noVNC's package holds something that is no plain file: {member.name}"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream.read())
    for path in destination.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
