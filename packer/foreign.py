# SPDX-License-Identifier: Apache-2.0
"""Another architecture's packages are set up by its own programs, which QEMU runs: binfmt_misc finds it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from systemvm.host.architecture import Architecture

_MISC = Path("/proc/sys/fs/binfmt_misc")
_RULES = Path("/usr/lib/binfmt.d")


def needed(architecture: Architecture) -> dict[str, str]:
    """Programs and the Debian packages that bring them, beside those that every build needs."""
    return {
        "arch-test": "arch-test",
        f"qemu-{architecture.machine_name}-static": "qemu-user-static",
        architecture.qemu: architecture.debian_package,
    }


def enable(architecture: Architecture) -> None:
    """Tell the kernel of Debian's rule, where no init system did; it holds until the host's next start."""
    name = f"qemu-{architecture.machine_name}"
    if (_MISC / name).exists():
        return
    if not (_MISC / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", _MISC], check=False)
    try:
        rule = (_RULES / f"{name}.conf").read_text().strip()
        if not (_MISC / name).exists():
            (_MISC / "register").write_text(rule)
    except OSError as error:
        raise SystemExit(
            f"error: {architecture.value}'s programs cannot be run here: {error}\n"
            "hint:  the kernel needs binfmt_misc, and a container the right to write its register file"
        ) from error
