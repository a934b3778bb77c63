# SPDX-License-Identifier: Apache-2.0
"""Writes a small file atomically, and never with a wider mode than requested."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace `path`, also when it is a symbolic link, by a regular file with this content and mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)  # the umask can have removed bits
        stream.write(data)
    temporary.replace(path)
