# SPDX-License-Identifier: Apache-2.0
"""A guest that writes without a pause, and checks what it finds when it boots.

It writes files and their checksums on a journaled file system, flushes each, and replaces the oldest. A disk
whose writes are not in their order is seen by its files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

SECTOR_BYTES = 512
MIB = 1 << 20
DATA_MIB = 24
#: One of these many files is always being replaced.
FILES = 40
START = f"""\
#!/bin/sh
cd /data
whole=0
for sum in files/*.sum; do
    [ -e "$sum" ] || continue
    if md5sum -c "$sum" > /dev/null 2>&1; then whole=$((whole + 1)); else echo "writer: $sum is broken"; fi
done
echo "writer: $whole files are whole"
round=0
while :; do
    number=$((round % {FILES}))
    rm -f files/$number.sum
    sync
    head -c 20000 /dev/urandom > files/$number
    sync
    md5sum files/$number > files/$number.new
    sync
    mv files/$number.new files/$number.sum
    round=$((round + 1))
    [ $((round % {FILES})) = 0 ] && echo "writer: round $round"
done
"""


def add_writer(tiny: Path, work: Path, target: Path) -> None:
    """Write the tiny image with a second partition that has the program."""
    tree, raw = work / "tree", work / "writer.raw"
    (tree / "files").mkdir(parents=True)
    (tree / "start").write_text(START)
    (tree / "start").chmod(0o755)
    run("qemu-img", "convert", "-O", "raw", tiny, raw)
    begin_bytes = raw.stat().st_size
    with raw.open("r+b") as file:
        file.truncate(begin_bytes + DATA_MIB * MIB)
    table = f"{begin_bytes // SECTOR_BYTES},,L\n"
    subprocess.run(["sfdisk", "-q", "--append", raw], input=table, text=True, check=True)
    options = f"offset={begin_bytes}"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, "-E", options, raw, f"{DATA_MIB * 1024}k")
    run("qemu-img", "convert", "-c", "-O", "qcow2", raw, work / target.name)
    shutil.move(work / target.name, target)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=300)


def rounds(serial_log: Path) -> int:
    """Return how many files a guest has written since it was started."""
    return max(map(int, re.findall(r"writer: round (\d+)", _output(serial_log))), default=0)


def whole_files(serial_log: Path) -> int | None:
    """Return how many files a guest has found whole when it booted; None: it has not looked yet.

    Raises: AssertionError for a broken one.
    """
    output = _output(serial_log)
    assert "is broken" not in output, output
    found = re.search(r"writer: (\d+) files are whole", output)
    return None if found is None else int(found[1])


def _output(serial_log: Path) -> str:
    """Return a log, which must be of one start."""
    return serial_log.read_text(errors="replace") if serial_log.exists() else ""
