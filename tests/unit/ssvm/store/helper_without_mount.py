# SPDX-License-Identifier: Apache-2.0
"""The store helper, without root's mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from systemvm.ssvm.store.operations import StoreHelper


class HelperWithoutMount(StoreHelper):
    """A store in a plain directory instead of a mount."""

    @contextmanager
    def _mounted(self, mount_id: str) -> Iterator[int]:
        descriptor = os.open(self._mount_root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
