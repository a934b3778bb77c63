# SPDX-License-Identifier: Apache-2.0
"""Runs a program as another user with only the named capabilities, as its unit does on a host.

`python -m systemvm.lab.drop_privileges --user NAME [--capability net_admin] [--tun] --see DIR -- PROGRAM …`
runs as root in its own mount namespace (`ip netns exec` makes one). A checkout can be in a directory that
only its owner can enter, for example /root: the directories of `--see` become reachable for this program.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import stat
import sys
from pathlib import Path

_MS_BIND, _MS_REC = 4096, 16384
_TUN = Path("/dev/net/tun")
_TUN_DEVICE = os.makedev(10, 200)


def blocked(path: Path) -> Path | None:
    """Return the topmost directory above `path` that other users cannot enter, None if there is none."""
    for directory in reversed(path.parents):
        if not directory.stat().st_mode & stat.S_IXOTH:
            return directory
    return None


def open_passage(paths: list[Path]) -> None:
    """Replace each directory that others cannot enter by an empty one, and mount the paths in it again."""
    barred: dict[Path, dict[Path, int]] = {}
    for path in paths:
        barrier = blocked(path)
        if barrier is not None:
            barred.setdefault(barrier, {})[path] = os.open(path, os.O_PATH | os.O_DIRECTORY)
    for barrier, inside in barred.items():
        _mount("none", barrier, "tmpfs", 0, "mode=755,size=1m")
        for path in sorted(inside):
            if not path.exists():  # it can be in a directory that was just mounted
                path.mkdir(parents=True)
                # by descriptor: the path now leads into the empty directory
                _mount(f"/proc/self/fd/{inside[path]}", path, None, _MS_BIND | _MS_REC)


def open_tun() -> None:
    """Make /dev/net/tun accessible: where only root can open it, replace it by a node of our own."""
    if _TUN.exists() and not _TUN.stat().st_mode & stat.S_IWOTH:
        _mount("none", _TUN.parent, "tmpfs", 0, "mode=755,size=16k")
        os.mknod(_TUN, 0o666 | stat.S_IFCHR, _TUN_DEVICE)
        _TUN.chmod(0o666)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    command = [value.encode() if value is not None else None for value in (source, str(target), kind)]
    if libc.mount(*command, ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {target}: {os.strerror(number)}")


def setpriv(user: str, capabilities: list[str]) -> list[str]:
    """Return util-linux's command for the user, its groups and these capabilities, without more."""
    kept = "".join(f",+{name}" for name in capabilities)
    return [
        "setpriv", "--reuid", user, "--regid", user, "--init-groups", "--no-new-privs",
        "--bounding-set", f"-all{kept}", "--inh-caps", f"-all{kept}", "--ambient-caps", f"-all{kept}", "--",
    ]  # fmt: skip


def main(command: list[str]) -> None:
    split = command.index("--")
    parser = argparse.ArgumentParser(prog="systemvm.lab.drop_privileges", description=__doc__)
    parser.add_argument("--user", required=True)
    parser.add_argument("--capability", action="append", default=[])
    parser.add_argument("--tun", action="store_true")
    parser.add_argument("--see", action="append", default=[], type=Path)
    options = parser.parse_args(command[:split])
    open_passage([path.resolve() for path in options.see])
    if options.tun:
        open_tun()
    os.chdir("/")
    argv = [*setpriv(options.user, options.capability), *command[split + 1 :]]
    os.execvp(argv[0], argv)  # noqa: S606 - this is what it is for


if __name__ == "__main__":
    main(sys.argv[1:])
