# SPDX-License-Identifier: Apache-2.0
"""The guests' code of a source tree, and the version that names it exactly: for images and for patches.

The version is that of the code with a part of a digest of all files. An agent reports it in its hello, from
an image and after a patch, so that two trees of one version are told apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

from systemvm.service.errors import SystemVmError
from systemvm.wire.role import Role

#: Packages of both appliances, and those of each role.
COMMON = ("wire", "web", "rpc", "service", "guest")
OF_ROLE = {Role.SSVM: ("ssvm",), Role.CPVM: ("recording", "cpvm")}
VERSION_FILE = "systemvm/guest/version.py"
_VERSION = re.compile(r'^VERSION = "([^"]+)"$', re.MULTILINE)


class GuestCodeError(SystemVmError):
    """The directory does not contain the guests' code."""


@frozen
class GuestCode:
    """`files` by path, as in the tree but for the version file, which has `version`."""

    role: Role
    version: str
    files: dict[str, bytes] = field(repr=False)


def packages_of(role: Role) -> tuple[str, ...]:
    """Return the names of the packages below `systemvm` that an appliance has."""
    return *COMMON, *OF_ROLE[role]


def read(role: Role, source: Path) -> GuestCode:
    """Read the code of a role's agent below the directory that contains the package `systemvm`.

    Raises: GuestCodeError when the code is incomplete.
    """
    files = dict(_files(role, source))
    try:
        text = files[VERSION_FILE].decode()
        [code_version] = _VERSION.findall(text)
    except (KeyError, ValueError):
        raise GuestCodeError(f"{source} does not contain the guests' part of the package systemvm") from None
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    version = f"{code_version}+{digest.hexdigest()[:8]}"
    files[VERSION_FILE] = _VERSION.sub(f'VERSION = "{version}"', text).encode()
    return GuestCode(role, version, files)


def _files(role: Role, source: Path) -> Iterator[tuple[str, bytes]]:
    package = source / "systemvm"
    roots = [package / name for name in packages_of(role)]
    for path in [package / "__init__.py", *(path for root in roots for path in sorted(root.rglob("*")))]:
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(source)), path.read_bytes()
