# SPDX-License-Identifier: Apache-2.0
"""A clock in place of the reactor, for streams that the reactor watches."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock


class DescriptorClock(Clock):
    """A clock that records the watched descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard
