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

from attrs import frozen

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
total=$(cat total 2>/dev/null || echo 0)
echo "writer: $whole files are whole of $total that were written"
round=0
while :; do
    number=$((round % {FILES}))
    rm -f files/$number.sum
    sync
    head -c 20000 /dev/urandom > files/$number
    sync
    md5sum files/$number > files/$number.new
    total=$((total + 1))
    echo $total > total.new
    sync
    mv files/$number.new files/$number.sum
    mv total.new total
    round=$((round + 1))
    [ $((round % {FILES})) = 0 ] && echo "writer: round $round"
done
"""


def add_writer(tiny: Path, work: Path, target: Path) -> None:
    """Write the tiny image with a second partition that has the program."""
    add_program(tiny, work, target, START)


def add_program(tiny: Path, work: Path, target: Path, program: str) -> None:
    """Write the tiny image with a second partition; its program writes to the serial log."""
    tree, raw = work / "tree", work / "writer.raw"
    (tree / "files").mkdir(parents=True)
    (tree / "start").write_text(program)
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


@frozen
class FoundFiles:
    """What a guest has found on its disk when it booted."""

    whole: int
    #: How often the guests of this disk, or of those that it was copied from, had written a file.
    written: int


def rounds(serial_log: Path) -> int:
    """Return how many files a guest has written since it was started, before a second boot."""
    return max(map(int, re.findall(r"writer: round (\d+)", _output(serial_log))), default=0)


def found_at_boots(serial_log: Path) -> list[FoundFiles]:
    """Return what a guest has found at each of its boots.

    Raises: AssertionError for a broken file.
    """
    output = _output(serial_log)
    assert "is broken" not in output, output
    found = re.findall(r"writer: (\d+) files are whole of (\d+) that were written", output)
    return [FoundFiles(int(whole), int(written)) for whole, written in found]


def whole_files(serial_log: Path) -> int | None:
    """Return how many files a guest has found whole when it last booted; None: it has not looked yet.

    Raises: AssertionError for a broken one.
    """
    found = found_at_boots(serial_log)
    return found[-1].whole if found else None


def _output(serial_log: Path) -> str:
    return serial_log.read_text(errors="replace") if serial_log.exists() else ""
