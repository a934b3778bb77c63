# SPDX-License-Identifier: Apache-2.0
"""The program that reads text on screens, which knows what stands on which pixels."""

from __future__ import annotations

from systemvm.management.screens.picture import Picture
from systemvm.management.screens.recognition import RecognitionError


class FakeRecognizer:
    """Knows what is written on which pixels."""

    def __init__(self) -> None:
        self.texts: dict[bytes, str] = {}
        self.readings = 0
        self.is_installed = True

    def require(self) -> None:
        if not self.is_installed:
            raise RecognitionError("text cannot be read")

    async def read(self, picture: Picture) -> str:
        self.require()
        self.readings += 1
        return self.texts.get(picture.pixels, "")
