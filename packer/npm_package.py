# SPDX-License-Identifier: Apache-2.0
"""Stock packages from npm that the console's page is made of, pinned by npm's locks: what of them is kept."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

from appliance import TOP
from attrs import frozen


@frozen
class NpmPackage:
    """A package; it is unpacked to `home` below build/, and below /opt/systemvm in the image."""

    home: str
    title: str
    name: str  # at npm
    lock: Path
    kept: tuple[str, ...]  # what of it: files, and folders with a slash

    @property
    def version(self) -> str:
        return self._locked("version")

    @property
    def integrity(self) -> str:
        return self._locked("integrity")

    def _locked(self, key: str) -> str:
        value: str = json.loads(self.lock.read_text())["packages"][f"node_modules/{self.name}"][key]
        return value

    def _keeps(self, name: str) -> bool:
        return name in self.kept or name.startswith(tuple(each for each in self.kept if each.endswith("/")))

    def unpack(self, package: Path, destination: Path) -> None:
        """Unpack npm's tar to `destination`, which is replaced.

        Raises: SystemExit when it contains anything but plain files, because the console serves only these.
        """
        shutil.rmtree(destination, ignore_errors=True)
        with tarfile.open(package) as tar:
            for member in tar:
                name = member.name.removeprefix("package/")
                if member.isdir() or not self._keeps(name):
                    continue
                path = (destination / name).resolve()
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or not path.is_relative_to(destination.resolve()):
                    found = f"something other than a plain file: {member.name}"
                    raise SystemExit(f"error: package of {self.title} contains {found}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stream.read())
        for path in destination.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


_NOVNC_LOCK = TOP / "packer/novnc/package-lock.json"
_XTERM_LOCK = TOP / "packer/xterm/package-lock.json"

NPM_PACKAGES = (
    NpmPackage(
        "novnc",
        "noVNC",
        "@novnc/novnc",
        _NOVNC_LOCK,
        ("core/", "vendor/", "LICENSE.txt", "AUTHORS", "package.json"),
    ),
    NpmPackage(
        "xterm",
        "xterm.js",
        "@xterm/xterm",
        _XTERM_LOCK,
        ("lib/xterm.mjs", "css/xterm.css", "LICENSE", "package.json"),
    ),
    NpmPackage(
        "xterm-fit",
        "xterm.js's fit addon",
        "@xterm/addon-fit",
        _XTERM_LOCK,
        ("lib/addon-fit.mjs", "LICENSE", "package.json"),
    ),
)
