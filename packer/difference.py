# SPDX-License-Identifier: Apache-2.0
"""Compares two images file by file (content, kind, mode, owner), and their boot loaders.

usage: python packer/difference.py A.qcow2 B.qcow2

Only the paths in packer/differences.yaml may differ, each with its reason.
Exit code: 0 no other path differs, 1 others differ.
"""

from __future__ import annotations

import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from appliance import TOP
from attrs import frozen
from image_files import Entry, entries, unpack

LIST = TOP / "packer/differences.yaml"
BOOT_AREA = "<before the root partition>"


@frozen
class Difference:
    """One path that differs, and the reason when that is expected."""

    path: str
    what: str
    reason: str = ""


def explained(path: Path = LIST) -> dict[str, str]:
    """Return patterns of paths that may differ, each with its reason.

    Raises: SystemExit when one has no reason.
    """
    listed = yaml.safe_load(path.read_text()) or {}
    for pattern, reason in listed.items():
        if not isinstance(reason, str) or not reason.strip():
            raise SystemExit(
                f"error: {path}: {pattern} has no reason\nhint:  add the reason why it cannot be equal"
            )
    return dict(listed)


def differences(a: dict[str, Entry], b: dict[str, Entry], reasons: dict[str, str]) -> list[Difference]:
    """Return the differences by path."""
    found = []
    for path in sorted(a.keys() | b.keys()):
        old, new = a.get(path), b.get(path)
        if old != new:
            reason = next((text for glob, text in reasons.items() if fnmatchcase(path, glob)), "")
            found.append(Difference(path, _what(old, new), reason))
    return found


def _what(old: Entry | None, new: Entry | None) -> str:
    if old is None or new is None:
        return "only in the second" if old is None else "only in the first"
    names = ("kind", "mode", "owner", "content")
    return ", ".join(name for name in names if getattr(old, name) != getattr(new, name))


def compare(first: Path, second: Path, scratch: Path) -> list[Difference]:
    """Unpack two images in `scratch` and compare them."""
    trees = []
    for name, image in (("first", first), ("second", second)):
        boot = unpack(image, scratch / name)
        trees.append({**entries(scratch / name), BOOT_AREA: Entry("area", 0, (0, 0), boot)})
    return differences(trees[0], trees[1], explained())


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    with tempfile.TemporaryDirectory(dir=TOP / "build") as scratch:
        found = compare(Path(arguments[0]), Path(arguments[1]), Path(scratch))
    for item in found:
        print(f"{item.path}: {item.what}{f' (expected: {item.reason})' if item.reason else ''}")
    return int(any(not item.reason for item in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
