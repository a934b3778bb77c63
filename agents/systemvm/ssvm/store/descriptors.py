# SPDX-License-Identifier: Apache-2.0
"""Directories by their descriptors: no path is resolved twice, and no link of another client is followed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def list_names(directory: int) -> list[str]:
    """Return the names in a directory, sorted."""
    return sorted(os.listdir(directory))


def remove(directory: int, name: str) -> None:
    """Remove a file, a link or a tree, if it is there; shutil follows no link of a tree."""
    try:
        state = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(state.st_mode):
        shutil.rmtree(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)
