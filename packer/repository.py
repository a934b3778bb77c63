# SPDX-License-Identifier: Apache-2.0
"""Makes a local repository of exactly the locked Debian packages, the only source of mmdebstrap."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import sbom
from deb_lock import Deb


def make(directory: Path, suite: str, architecture: str, debs: Iterable[tuple[Deb, Path]]) -> str:
    """Make the repository in `directory` and return apt's source line.

    The packages' hashes were checked when they came out of the cache, so the index needs no signature.
    """
    shutil.rmtree(directory, ignore_errors=True)
    pool = directory / "pool"
    pool.mkdir(parents=True)
    blocks = []
    for deb, path in debs:
        os.link(path, pool / deb.file_name)
        control = subprocess.run(["dpkg-deb", "--field", path], capture_output=True, text=True, check=True)
        blocks.append(
            f"{control.stdout.rstrip()}\nFilename: pool/{deb.file_name}\n"
            f"Size: {deb.size_bytes}\nSHA256: {deb.sha256}\n"
        )
    index = "\n".join(blocks).encode()
    name = f"main/binary-{architecture}/Packages"
    place = directory / "dists" / suite
    (place / name).parent.mkdir(parents=True)
    (place / name).write_bytes(index)
    release = (
        f"Suite: {suite}\nCodename: {suite}\nArchitectures: {architecture}\nComponents: main\n"
        f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {name}\n"
    )
    (place / "Release").write_text(release)
    return f"deb [trusted=yes] copy:{directory.resolve()} {suite} main"


def installed_otherwise(root_tar: Path, debs: Iterable[Deb]) -> list[str]:
    """Return the differences between the packages of a root file system and the lock, a line for each."""
    with tarfile.open(root_tar) as tar:
        status = tar.extractfile("./var/lib/dpkg/status")
        text = status.read().decode() if status is not None else ""
    found = {
        f"{package['Package']} {package['Version']} {package['Architecture']}"
        for package in sbom.debian_packages(text)
    }
    locked = {" ".join(deb.key) for deb in debs}
    extra = [f"{item} is not locked" for item in found - locked]
    return sorted(extra + [f"{item} is not installed" for item in locked - found])
