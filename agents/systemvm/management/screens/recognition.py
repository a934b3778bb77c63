# SPDX-License-Identifier: Apache-2.0
"""Reads the text on a screen with Tesseract, a program of Debian, for scripts that know words and no pixels.

It takes seconds of CPU, so one screen is read at a time. Letters of a console's font that look alike are
often mistaken for each other, so texts are compared without the difference.
"""

from __future__ import annotations

import shutil
from typing import Protocol

from twisted.internet.defer import DeferredLock

from systemvm.management import child_process
from systemvm.management.child_process import CommandError, ProcessLimits
from systemvm.management.screens.picture import Picture
from systemvm.service.errors import FailureCode, SystemVmError

PROGRAM, PACKAGE = "tesseract", "tesseract-ocr"
#: A picture of 16 megapixels, twice as wide and high, and Tesseract's own 200 MiB.
_LIMITS = ProcessLimits(address_space_bytes=2 << 30, open_files=64)
_TIMEOUT_S = 120.0
#: One block of text, as a console is; the others look for columns and headings (tesseract(1), --psm).
_OPTIONS = ("-l", "eng", "--psm", "6")
#: More threads make a screen slower on a busy host.
_ONE_THREAD = ("env", "OMP_THREAD_LIMIT=1")
#: What is mistaken for what; both become the second.
_ALIKE = str.maketrans("0@®1l|!—–", "oooiiii--")


class RecognitionError(SystemVmError):
    """A screen whose text cannot be read."""

    code = FailureCode.UNAVAILABLE


class Recognizer(Protocol):
    """Reads pictures."""

    def require(self) -> None:
        """Check that pictures can be read on this host.

        Raises: RecognitionError.
        """

    async def read(self, picture: Picture) -> str:
        """Return the text on a picture, line by line.

        Raises: RecognitionError.
        """


class Tesseract:
    """Runs the program, once at a time."""

    def __init__(self, program: str = PROGRAM) -> None:
        self._program = program
        self._lock = DeferredLock()

    def require(self) -> None:
        if shutil.which(self._program) is None:
            raise RecognitionError(
                f"text on screens cannot be read: {self._program} is not installed",
                f"install the package {PACKAGE} on this host, or wait for a picture",
            )

    async def read(self, picture: Picture) -> str:
        self.require()
        await self._lock.acquire()
        try:
            # its model expects letters of 20 pixels and more; those of a console have 16
            output = await child_process.run(
                [self._program, "stdin", "stdout", *_OPTIONS],
                stdin=picture.doubled().ppm(),
                timeout_s=_TIMEOUT_S,
                limits=_LIMITS,
                within=_ONE_THREAD,
            )
        except CommandError as error:
            message = f"text on the screen cannot be read: {error.message}"
            raise RecognitionError(message, error.hint) from error
        finally:
            self._lock.release()
        return output.decode(errors="replace").strip()


def is_shown(wanted: str, read: str) -> bool:
    """Return whether a text contains another one, apart from case, blanks and letters that look alike."""
    return _folded(wanted) in _folded(read)


def _folded(text: str) -> str:
    return "".join(text.lower().translate(_ALIKE).split())
