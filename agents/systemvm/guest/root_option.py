# SPDX-License-Identifier: Apache-2.0
"""The option --root of programs that run at every boot, which do without argparse for its import time."""

from __future__ import annotations


def split_root(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the directory of `--root`, by default /, and the other arguments.

    Raises: ValueError when `--root` has no directory.

    >>> split_root(["--json", "--root", "/mnt"])
    ('/mnt', ['--json'])
    """
    if "--root" not in arguments:
        return "/", arguments
    index = arguments.index("--root")
    if index + 1 == len(arguments):
        raise ValueError("--root has no directory")
    return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
