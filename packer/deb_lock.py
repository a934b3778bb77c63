# SPDX-License-Identifier: Apache-2.0
"""The lock of Debian's packages, packer/locks/debs.ARCH.txt: versions, sizes, hashes; no addresses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from appliance import TOP
from attrs import evolve, frozen
from stamps import digest

LOCKS = TOP / "packer/locks"
_TITLE = "# Debian packages of the appliances: name version architecture bytes sha256 roles"


@frozen(order=True)
class Deb:
    """One binary package; `roles` are the appliances that contain it."""

    name: str
    version: str
    architecture: str
    size_bytes: int
    sha256: str
    roles: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """The file name as in Debian's pool, without the version's epoch."""
        return f"{self.name}_{self.version.rpartition(':')[2]}_{self.architecture}.deb"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.version, self.architecture

    @property
    def line(self) -> str:
        roles = ",".join(self.roles)
        return f"{self.name} {self.version} {self.architecture} {self.size_bytes} {self.sha256} {roles}"


@frozen
class DebLock:
    """A set of packages; `instead_of` is the digest of the lock that this set replaces."""

    debs: tuple[Deb, ...]
    instead_of: str = ""

    @classmethod
    def of(cls, by_role: dict[str, list[Deb]], instead_of: str = "") -> DebLock:
        merged: dict[tuple[str, str, str], Deb] = {}
        for role, debs in sorted(by_role.items()):
            for deb in debs:
                known = merged.get(deb.key, deb)
                merged[deb.key] = evolve(known, roles=(*known.roles, role))
        return cls(tuple(sorted(merged.values())), instead_of)

    @classmethod
    def read(cls, path: Path) -> DebLock:
        """Read a lock.

        Raises: SystemExit with file and line when one is malformed.
        """
        debs, instead_of = [], ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("# instead of "):
                instead_of = line.removeprefix("# instead of ")
            elif line and not line.startswith("#"):
                try:
                    name, version, architecture, size, sha256, roles = line.split()
                    debs.append(Deb(name, version, architecture, int(size), sha256, tuple(roles.split(","))))
                except ValueError:
                    raise SystemExit(
                        f"error: {path}:{number}: not a locked package\nhint:  run `make lock-debs`"
                    ) from None
        return cls(tuple(debs), instead_of)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        title = [_TITLE, *([f"# instead of {self.instead_of}"] if self.instead_of else [])]
        new = path.with_suffix(".new")
        new.write_text("\n".join([*title, *(deb.line for deb in self.debs)]) + "\n")
        new.replace(path)

    @property
    def digest(self) -> str:
        return digest(*(deb.line for deb in self.debs))

    def of_role(self, role: str) -> list[Deb]:
        return [deb for deb in self.debs if role in deb.roles]


def lock_path(architecture: str) -> Path:
    return LOCKS / f"debs.{architecture}.txt"


def committed(architecture: str) -> DebLock:
    """Return the lock in the repository.

    Raises: SystemExit when the architecture has none.
    """
    path = lock_path(architecture)
    if not path.exists():
        raise SystemExit(
            f"error: no Debian packages are locked for {architecture}: {path} does not exist\n"
            f"hint:  run `make lock-debs ARCH={architecture}`"
        )
    return DebLock.read(path)


def deviations(locked: Iterable[Deb], used: Iterable[Deb]) -> list[str]:
    """Return the differences, one line for each: `name: locked → used`."""
    before = {(deb.name, deb.architecture): deb for deb in locked}
    after = {(deb.name, deb.architecture): deb for deb in used}
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None or new is None or (old.version, old.sha256) != (new.version, new.sha256):
            lines.append(
                f"{key[0]}: {old.version if old else 'not locked'} → {new.version if new else 'none'}"
            )
    return lines
