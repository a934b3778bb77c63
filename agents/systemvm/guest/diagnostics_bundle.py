# SPDX-License-Identifier: Apache-2.0
"""The zip of diagnostics: the entries of a list, redacted, with a manifest of what was not found.

/etc/systemvm/diagnostics.conf has one entry on each line, `exec NAME COMMAND…` or `file NAME PATH`. A request
names entries, or plain files in directories that contain no keys.
"""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from systemvm.service.redaction import redact
from systemvm.service.slowness import scaled_s

LIST = Path("/etc/systemvm/diagnostics.conf")
MANIFEST = "fileinfo.txt"
ENTRY_MAX_BYTES = 8 * 1024 * 1024
EXEC_TIMEOUT_S = 20.0
#: Directories of plain files that a request may name; they contain no keys, and the content is redacted.
OPEN_PLACES = (
    "/var/log/",
    "/run/log/",
    "/proc/",
    "/sys/class/",
    "/usr/local/cloud/",
    "/etc/systemvm/",
    "/run/systemd/",
)
OPEN_FILES = ("/etc/cloudstack-release", "/etc/os-release", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname",
              # targets of the links in /etc; ssh's keys are in the same directory
    "/run/systemvm-preinit/hosts",
    "/run/systemvm-preinit/resolv.conf",
    "/run/systemvm-preinit/hostname",
    "/var/cache/cloud/cmd_line.json", "/var/cache/cloud/boot_up_done")  # fmt: skip


class BundleEntry(NamedTuple):
    """One line of the list."""

    kind: str  # exec | file
    name: str  # in the zip, and in a request
    source: tuple[str, ...]


def parse(text: str) -> list[BundleEntry]:
    """Return the list's entries.

    Raises: ValueError when a line is neither an entry nor a comment.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if fields[0] not in ("exec", "file") or len(fields) < 3:
            raise ValueError(f"line {number} is neither `exec NAME COMMAND` nor `file NAME PATH`: {line}")
        entries.append(BundleEntry(fields[0], fields[1], tuple(fields[2:])))
    return entries


def archive(wanted: Iterable[str], entries: list[BundleEntry] | None = None, root: Path = Path("/")) -> bytes:
    """Return a zip of the whole list, or of the entries and files in `wanted`."""
    known = parse(LIST.read_text()) if entries is None else entries
    requested = [name for name in wanted if name]
    found: list[str] = []
    missing: list[str] = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for entry in _chosen(requested, known):
            text = _read(entry, root)
            if text is None:
                missing.append(entry.name)
            else:
                zipped.writestr(entry.name, redact(text))
                found.append(entry.name)
        lines = ["Files found:", *found, "", "File Not Found!!:", *missing]
        zipped.writestr(MANIFEST, "\n".join(lines) + "\n")
    return buffer.getvalue()


def _chosen(requested: list[str], known: list[BundleEntry]) -> list[BundleEntry]:
    if not requested:
        return known
    by_name = {entry.name: entry for entry in known}
    # an entry can be named as a path: /var/log/cloud.log is the entry var/log/cloud.log
    return [
        by_name.get(name.lstrip("/")) or BundleEntry("file", name.lstrip("/"), (name,)) for name in requested
    ]


def _read(entry: BundleEntry, root: Path) -> str | None:
    """Return the text, only its end when it is long; None when it cannot be read."""
    if entry.kind == "exec":
        return _output(entry.source)
    path = PurePosixPath(entry.source[0])
    if not _is_open(path):
        return None
    real = (root / str(path).lstrip("/")).resolve()
    # a symbolic link can lead anywhere, so its target is checked
    if (
        not real.is_file()
        or not real.is_relative_to(root)
        or not _is_open(PurePosixPath("/", real.relative_to(root)))
    ):
        return None
    try:
        with real.open("rb") as file:
            data = file.read(ENTRY_MAX_BYTES + 1)
    except OSError:
        return None
    return data[-ENTRY_MAX_BYTES:].decode("utf-8", "replace")


def _is_open(path: PurePosixPath) -> bool:
    text = str(path)
    return (
        path.is_absolute() and ".." not in path.parts and (text in OPEN_FILES or text.startswith(OPEN_PLACES))
    )


def _output(argv: tuple[str, ...]) -> str | None:
    try:
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=scaled_s(EXEC_TIMEOUT_S),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} did not end within {scaled_s(EXEC_TIMEOUT_S):.0f} s\n"
    except OSError:
        return None
    return done.stdout[-ENTRY_MAX_BYTES:].decode("utf-8", "replace")
