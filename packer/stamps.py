# SPDX-License-Identifier: Apache-2.0
"""Decides by content whether results belong to their inputs, because times of a new checkout mean nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path


def digest(*inputs: Path | str | bytes) -> str:
    """Return a hash over texts, and over files with their names, content and executable bits."""
    total = hashlib.sha256()
    for item in inputs:
        if isinstance(item, Path):
            for path in _files(item):
                mode = b"x" if os.access(path, os.X_OK) else b"-"
                total.update(b"\0file\0" + str(path.relative_to(item.parent)).encode() + b"\0" + mode)
                total.update(hashlib.sha256(path.read_bytes()).digest())
        else:
            total.update(b"\0text\0" + (item.encode() if isinstance(item, str) else item))
    return total.hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(item: Path) -> Iterable[Path]:
    if item.is_dir():
        found = (path for path in item.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return sorted(found)
    return [item]


class Stamp:
    """Records from which inputs a set of results was made."""

    def __init__(self, path: Path, outputs: list[Path]) -> None:
        self._path = path
        self._outputs = outputs

    def holds(self, inputs: str) -> bool:
        """Return whether all results exist, are complete, and were made from these inputs."""
        try:
            known = json.loads(self._path.read_text())
            return bool(known == {"inputs": inputs, "outputs": self._sizes()})
        except (OSError, ValueError):
            return False

    def set(self, inputs: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps({"inputs": inputs, "outputs": self._sizes()}, indent=1) + "\n")
        temporary.replace(self._path)

    def _sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self._outputs}
