# SPDX-License-Identifier: Apache-2.0
"""Every parser of bytes that strangers send, by the name that `make fuzz` shows."""

from __future__ import annotations

from fuzz import client_targets, console_targets, image_targets, source_targets, store_targets

TARGETS = {
    **image_targets.TARGETS,
    **source_targets.TARGETS,
    **store_targets.TARGETS,
    **client_targets.TARGETS,
    **console_targets.TARGETS,
}
