# SPDX-License-Identifier: Apache-2.0
"""Stops the cloud of another process, and removes what a lab leaves behind."""

from __future__ import annotations

import shutil
from pathlib import Path

from systemvm.lab import namespaces, pool_mounts
from systemvm.lab.errors import LabError
from systemvm.lab.lab_lock import LabLock
from systemvm.lab.plan import LabPlan
from systemvm.service.slowness import scaled_s


def down(plan: LabPlan) -> None:
    """Stop the cloud of this root, whichever process runs it, and clean up after a killed one.

    Raises: LabError when the process does not end in time.
    """
    LabLock(plan.lab / "lock").terminate_holder(timeout_s=scaled_s(120.0))
    namespaces.remove(plan)
    pool_mounts.release(plan)
    if plan.root.exists():
        remove_sockets(plan)


def reset(plan: LabPlan) -> None:
    """Stop the cloud and delete its database, keys, templates and VMs.

    Raises: LabError when the root is not a lab's directory.
    """
    down(plan)
    if plan.root.exists():
        if not (plan.lab / "lock").exists():
            raise LabError(f"cannot delete {plan.root}: it is not a lab's directory", "delete it yourself")
        _make_removable(plan.layout.images)
        shutil.rmtree(plan.root)


def remove_sockets(plan: LabPlan) -> None:
    """Delete the sockets of a cloud that does not run any more."""
    shutil.rmtree(plan.layout.run, ignore_errors=True)


def _make_removable(images: Path) -> None:
    """Make images, which are read-only directories, writable."""
    for directory in images.glob("*"):
        if directory.is_dir():
            directory.chmod(0o755)
