# SPDX-License-Identifier: Apache-2.0
"""The directory of a lab's NFS mounts: what the mount helper mounts there is seen by daemon and launcher.

Both have mount namespaces of their own, which get new mounts of the host's only below a shared mount
(mount_namespaces(7)). It is a mount of the directory on itself, which disappears when the lab is stopped.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from systemvm.lab.plan import LabPlan
from systemvm.service.mountinfo import find_mount, mounts_below
from systemvm.service.slowness import scaled_s


def share(plan: LabPlan) -> None:
    """Mount the directory on itself, shared; it must exist."""
    directory = str(plan.layout.mounts)
    for command in (["mount", "--bind", directory, directory], ["mount", "--make-shared", directory]):
        subprocess.run(command, check=True, capture_output=True, timeout=scaled_s(60.0))


def release(plan: LabPlan) -> None:
    """Unmount everything there, also what uses a server that hangs or is gone; files stay on the servers."""
    directory = plan.layout.mounts
    while True:
        mountinfo = Path("/proc/self/mountinfo").read_text()
        below = mounts_below(mountinfo, directory)
        if not below and find_mount(mountinfo, directory) is None:
            return
        place = below[-1] if below else str(directory)
        # lazily and without a look at the export: its server is stopped, and the mounts are hard
        subprocess.run(
            ["umount", "-c", "-l", "--", place], check=True, capture_output=True, timeout=scaled_s(60.0)
        )
