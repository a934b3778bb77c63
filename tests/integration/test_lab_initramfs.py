# SPDX-License-Identifier: Apache-2.0
"""Check the initramfs archive with cpio."""

from __future__ import annotations

import gzip
import subprocess

from systemvm.lab.initramfs import Entry, archive

ENTRIES = [
    Entry.directory("bin"),
    Entry.character_device("console", 5, 1),
    Entry.file("bin/x", b"#!/bin/sh\n", 0o755),
    Entry.link("bin/sh", "x"),
    Entry.file("empty", b""),
]


def test_cpio_lists_the_archive() -> None:
    listing = subprocess.run(
        ["cpio", "-itv", "--quiet"], input=gzip.decompress(archive(ENTRIES)), capture_output=True, check=True
    ).stdout.decode()
    lines = {line.split()[8]: line for line in listing.splitlines() if "," not in line}
    assert lines["bin/x"].startswith("-rwxr-xr-x")
    assert lines["bin"].startswith("drwxr-xr-x")
    assert "bin/sh -> x" in listing
    assert "5,   1" in listing
