# SPDX-License-Identifier: Apache-2.0
"""The initramfs archive; tests/integration/test_lab_initramfs.py unpacks it with cpio."""

from __future__ import annotations

from systemvm.lab.initramfs import Entry, archive

ENTRIES = [
    Entry.directory("bin"),
    Entry.character_device("console", 5, 1),
    Entry.file("bin/x", b"#!/bin/sh\n", 0o755),
    Entry.link("bin/sh", "x"),
    Entry.file("empty", b""),
]


def test_equal_entries_give_equal_bytes() -> None:
    assert archive(ENTRIES) == archive(ENTRIES)
