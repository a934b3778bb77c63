# SPDX-License-Identifier: Apache-2.0
"""Packs the guests' code of this daemon into an archive with a manifest, for patching a system VM."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from attrs import field, frozen

import systemvm
from systemvm.service.errors import SystemVmError
from systemvm.wire.role import Role

#: Packages of both appliances; each also has the package of its role.
COMMON = ("wire", "web", "rpc", "service", "guest")
#: Units that run the old code until they are restarted; the agent is first.
UNITS = {
    Role.SSVM: [
        "systemvm-agent.service",
        "systemvm-fetch.service",
        "systemvm-serve.service",
        "systemvm-store.service",
        "systemvm-mount.service",
    ],
    Role.CPVM: ["systemvm-agent.service"],
}
_VERSION_FILE = "systemvm/guest/version.py"
_VERSION = re.compile(r'^VERSION = "([^"]+)"$', re.MULTILINE)
_PATCHER = "systemvm/guest/patch.py"


class BundleError(SystemVmError):
    """The directory does not contain the guests' code."""


@frozen
class PatchBundle:
    """`version` is the code's version with a part of its hash: the agent reports it in its hello."""

    role: Role
    version: str
    code_version: str
    archive: bytes = field(repr=False)

    def is_run_by(self, agent_version: str | None) -> bool:
        """Return whether an agent of this version runs the same code."""
        return agent_version in (self.version, self.code_version)


def own_code() -> Path:
    """Return the directory that contains the package `systemvm` of this daemon."""
    return Path(systemvm.__file__).resolve().parents[1]


def build(role: Role, source: Path, *, start_timeout_s: float) -> PatchBundle:
    """Pack the code of a role's agent from the directory that contains the package `systemvm`.

    Raises: BundleError when the code is incomplete.
    """
    files = dict(_files(role, source))
    try:
        text = files[_VERSION_FILE].decode()
        [code_version] = _VERSION.findall(text)
        patcher = files[_PATCHER]
    except (KeyError, ValueError):
        raise BundleError(f"{source} does not contain the guests' part of the package systemvm") from None
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    version = f"{code_version}+{digest.hexdigest()[:8]}"
    files[_VERSION_FILE] = _VERSION.sub(f'VERSION = "{version}"', text).encode()
    manifest = {
        "version": version,
        "role": role.value,
        "requires": _requirements(),
        "units": UNITS[role],
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        "start_timeout_s": start_timeout_s,
    }
    archive = _pack(
        {"patch.py": patcher, "manifest.json": json.dumps(manifest, indent=1).encode()}
        | {f"lib/{name}": content for name, content in files.items()}
    )
    return PatchBundle(role, version, code_version, archive)


def _files(role: Role, source: Path) -> Iterator[tuple[str, bytes]]:
    package = source / "systemvm"
    roots = [package / name for name in (*COMMON, role.value)]
    for path in [package / "__init__.py", *(path for root in roots for path in sorted(root.rglob("*")))]:
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(source)), path.read_bytes()


def _requirements() -> list[str]:
    """Return the requirements of the guests' part; those of the host have an `extra`."""
    named = [line for line in requires("systemvm") or [] if "extra ==" not in line]
    return sorted({re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in named})


def _pack(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
