# SPDX-License-Identifier: Apache-2.0
"""Lets the kernel run programs of another architecture by QEMU (binfmt_misc), to configure its packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

from systemvm.host.architecture import Architecture

_MISC = Path("/proc/sys/fs/binfmt_misc")
_RULES = Path("/usr/lib/binfmt.d")


def needed(architecture: Architecture) -> dict[str, str]:
    """Return programs and their Debian packages that such a build needs in addition."""
    return {
        "arch-test": "arch-test",
        f"qemu-{architecture.machine_name}-static": "qemu-user-static",
        architecture.qemu: architecture.debian_package,
    }


def enable(architecture: Architecture) -> None:
    """Register Debian's rule with the kernel, where no init system did; it lasts until the host's reboot."""
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
            f"error: programs for {architecture.value} cannot be run here: {error}\n"
            "hint:  load the kernel module binfmt_misc; in a container, permit writing its register file"
        ) from error
