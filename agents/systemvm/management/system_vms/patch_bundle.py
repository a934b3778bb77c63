# SPDX-License-Identifier: Apache-2.0
"""Packs the guests' code of this daemon into an archive with a manifest, for patching a system VM."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from importlib.metadata import requires
from pathlib import Path

from attrs import field, frozen

import systemvm
from systemvm.host import guest_code
from systemvm.host.guest_code import GuestCodeError
from systemvm.wire.role import Role

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
_PATCHER = "systemvm/guest/patch.py"


@frozen
class PatchBundle:
    """`version` names the code exactly: an agent that runs it reports the same in its hello."""

    role: Role
    version: str
    archive: bytes = field(repr=False)


def own_code() -> Path:
    """Return the directory that contains the package `systemvm` of this daemon."""
    return Path(systemvm.__file__).resolve().parents[1]


def build(role: Role, source: Path, *, start_timeout_s: float) -> PatchBundle:
    """Pack the code of a role's agent from the directory that contains the package `systemvm`.

    Raises: GuestCodeError when the code is incomplete.
    """
    code = guest_code.read(role, source)
    files, version = code.files, code.version
    try:
        patcher = files[_PATCHER]
    except KeyError:
        raise GuestCodeError(f"{source} does not contain {_PATCHER}") from None
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
    return PatchBundle(role, version, archive)


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
