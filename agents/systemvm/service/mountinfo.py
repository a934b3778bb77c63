# SPDX-License-Identifier: Apache-2.0
"""Parses /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

_OCTAL = re.compile(r"\\([0-7]{3})")


@frozen
class MountPoint:
    source: str
    file_system: str
    options: str


def find_mount(mountinfo: str, directory: Path) -> MountPoint | None:
    """Return the topmost mount at `directory`; None when nothing is mounted there."""
    found = None
    for line in mountinfo.splitlines():
        place, _, behind = line.partition(" - ")
        fields, details = place.split(" "), behind.split(" ")
        if len(fields) >= 5 and len(details) >= 3 and _unescape(fields[4]) == str(directory):
            found = MountPoint(_unescape(details[1]), details[0], details[2])
    return found


def mounts_below(mountinfo: str, directory: Path) -> list[str]:
    """Return the mount points below `directory`, in the order in which they were mounted."""
    places = [_unescape(line.split(" ")[4]) for line in mountinfo.splitlines() if line.count(" ") >= 5]
    return [place for place in places if place.startswith(f"{directory}/")]


def _unescape(text: str) -> str:
    """Decode the escapes of the kernel, which writes a space as \\040."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
