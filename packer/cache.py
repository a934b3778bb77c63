# SPDX-License-Identifier: Apache-2.0
"""build/cache: all inputs of builds, each file checked against its locked hash."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import deb_lock
from appliance import TOP
from attrs import frozen
from deb_lock import Deb, DebLock
from npm_package import NPM_PACKAGES, NpmPackage
from stamps import sha256_of

GUEST_LOCK = TOP / "agents/locks/guest.txt"


@frozen
class Cache:
    """One architecture's inputs below `top`."""

    top: Path
    architecture: str

    @classmethod
    def of(cls, architecture: str) -> Cache:
        """Return the cache in the directory CACHE, by default build/cache."""
        return cls(Path(os.environ.get("CACHE") or TOP / "build/cache").resolve(), architecture)

    @property
    def debs(self) -> Path:
        return self.top / "debs"

    @property
    def wheels(self) -> Path:
        return self.top / "wheels" / self.architecture

    @property
    def deviating_lock(self) -> Path:
        """The set that replaces the locked one, if the mirror no longer has that."""
        return self.top / f"debs.{self.architecture}.txt"

    def lock(self) -> DebLock:
        """Return the set to build from: the committed lock, or its replacement.

        Raises: SystemExit when there is a replacement and LOCKED forbids it.
        """
        lock = deb_lock.committed(self.architecture)
        if self.deviating_lock.exists():
            instead = DebLock.read(self.deviating_lock)
            if instead.instead_of == lock.digest and self.missing_debs(lock):
                if os.environ.get("LOCKED"):
                    raise SystemExit(rejection_message(deb_lock.deviations(lock.debs, instead.debs)))
                return instead
        return lock

    def path(self, deb: Deb) -> Path:
        return self.debs / deb.file_name

    def holds(self, deb: Deb) -> bool:
        path = self.path(deb)
        return path.is_file() and path.stat().st_size == deb.size_bytes and sha256_of(path) == deb.sha256

    def missing_debs(self, lock: DebLock) -> list[Deb]:
        return [deb for deb in lock.debs if not self.holds(deb)]

    def wheel_of(self, hashes: set[str]) -> Path | None:
        """Return the wheel with one of these hashes."""
        return next((path for path in sorted(self.wheels.glob("*.whl")) if sha256_of(path) in hashes), None)

    def locked_wheels(self) -> dict[str, Path | None]:
        """Return the agents' packages, `name==version`, each with its wheel if it is in the cache."""
        here = {sha256_of(path): path for path in sorted(self.wheels.glob("*.whl"))}
        found: dict[str, Path | None] = {}
        for requirement, hashes in wheel_hashes(GUEST_LOCK).items():
            found[requirement] = next((here[sha256] for sha256 in sorted(hashes & here.keys())), None)
        return found

    def npm(self, package: NpmPackage) -> Path:
        return self.top / package.home / f"{package.home}-{package.version}.tgz"

    def holds_npm(self, package: NpmPackage) -> bool:
        path = self.npm(package)
        return path.is_file() and matches(path, package.integrity)

    def missing(self, lock: DebLock) -> list[str]:
        """Return everything that a build needs and the cache lacks."""
        debs = [
            f"Debian package {deb.name} {deb.version} {deb.architecture}" for deb in self.missing_debs(lock)
        ]
        wheels = [f"wheel {name}" for name, path in self.locked_wheels().items() if path is None]
        lacking = [package for package in NPM_PACKAGES if not self.holds_npm(package)]
        return debs + wheels + [f"{package.title} {package.version}" for package in lacking]

    def require_complete(self, lock: DebLock) -> None:
        """Check that nothing is missing.

        Raises: SystemExit that names everything that is missing.
        """
        missing = self.missing(lock)
        if missing:
            lines = "\n".join(f"       {item}" for item in missing)
            raise SystemExit(
                f"error: {len(missing)} locked inputs are missing or incomplete in {self.top}:\n{lines}\n"
                "hint:  run `make fetch` on a host with a network, and copy its build/cache or set CACHE=DIR"
            )


def wheel_hashes(lock: Path) -> dict[str, set[str]]:
    """Return `name==version` with its allowed hashes, from a lock written by uv or pip-compile."""
    found: dict[str, set[str]] = {}
    requirement = ""
    for line in lock.read_text().splitlines():
        token = line.strip().removesuffix("\\").strip()
        if token.startswith("--hash=sha256:"):
            found[requirement].add(token.removeprefix("--hash=sha256:"))
        elif "==" in token and not token.startswith("#"):
            requirement = token
            found[requirement] = set()
    return found


def matches(path: Path, integrity: str) -> bool:
    """Return whether a file has an npm integrity: `sha512-` and base64."""
    algorithm, _, expected = integrity.partition("-")
    with path.open("rb") as stream:
        return base64.b64encode(hashlib.file_digest(stream, algorithm).digest()).decode() == expected


def rejection_message(differences: list[str]) -> str:
    lines = "\n".join(f"       {line}" for line in differences)
    return (
        f"error: {len(differences)} Debian packages of the mirror differ from the lock:\n{lines}\n"
        "hint:  run `make lock-debs` to lock the mirror's versions; or set MIRROR= to a snapshot of the\n"
        "       archive, or CACHE= to an older cache; or build without LOCKED=1"
    )
