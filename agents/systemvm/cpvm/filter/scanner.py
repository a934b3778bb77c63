# SPDX-License-Identifier: Apache-2.0
"""Follows a stream of messages in pieces of any size, and passes, withholds or replaces its bytes.

A subclass describes the stream by a generator, `_steps`. It yields a positive number to read so many bytes,
or a negative one to skip bytes, which are never collected. Between two of them it can look at what has been
received and move `_position` within it, which is cheaper than a turn for each part. What is read or skipped
is passed at once, so that a long message costs no memory. `_hold` takes back the single byte that was read
last, and withholds what follows until `_release`; so the first byte of a message decides whether its bytes
are withheld.
"""

from __future__ import annotations

from collections.abc import Generator

from systemvm.cpvm.filter.faults import FilterError, FilterFault

Script = Generator[int, bytes, None]
Piece = bytes | memoryview


class Scanner:
    """`feed` returns the pieces to pass on; an unchanged input is one piece that shares its memory."""

    def __init__(self) -> None:
        self._passing = True
        self._position = 0  # of the input, after the last byte that was read
        self._held_at = 0
        self._removed = 0  # how many bytes the output is shorter than the input
        self._replacement = b""
        self._view = memoryview(b"")
        self._begin = 0  # of the view, in the input
        self._part = bytearray()
        self._failed: FilterError | None = None
        self._is_between = True
        self._script = self._steps()
        self._wanted = next(self._script)

    def _steps(self) -> Script:
        raise NotImplementedError

    @property
    def is_at_boundary(self) -> bool:
        """Return whether the last message is complete."""
        return self._is_between

    def _next_message(self) -> Generator[int, bytes, int]:
        """Read the first byte of the next message: until it comes, the stream is at a boundary."""
        self._is_between = True
        number = (yield 1)[0]
        self._is_between = False
        return number

    def feed(self, data: Piece) -> list[Piece]:
        """Return what to pass on.

        Raises: FilterError when the stream cannot be followed; then, and ever after, nothing is passed.
        """
        if self._failed is not None:
            raise self._failed
        try:
            return self._scan(memoryview(data))
        except FilterError as failed:
            self._failed = failed
            raise

    def _scan(self, view: memoryview) -> list[Piece]:
        output: list[Piece] = []
        passing, wanted, script, part = self._passing, self._wanted, self._script, self._part
        base, at, start, size = self._position, 0, 0, len(view)
        self._view, self._begin = view, base
        while True:
            if wanted > 0:
                missing = wanted - len(part)
                if size - at < missing:
                    part += view[at:]
                    at = size
                    break
                if part:
                    part += view[at : at + missing]
                    piece = bytes(part)
                    part.clear()
                else:
                    piece = bytes(view[at : at + missing])
                at += missing
            else:
                step = min(-wanted, size - at)
                at += step
                wanted += step
                if wanted:
                    break
                piece = b""
            self._position = base + at
            wanted = script.send(piece)
            at = self._position - base  # the script can have skipped more
            if self._passing is passing:
                continue
            if passing and at - 1 > start:  # the byte at which `_hold` was called is taken back
                output.append(view[start : at - 1])
            if self._replacement:
                output.append(self._replacement)
                self._replacement = b""
            passing, start = self._passing, at
        self._position, self._wanted = base + at, wanted
        self._view = memoryview(b"")
        if passing and at > start:
            output.append(view[start:at])
        return output

    def _hold(self) -> None:
        """Withhold the byte that was just read, and what follows; never a message of one byte."""
        self._passing = False
        self._held_at = self._position - 1

    def _release(self, replacement: bytes) -> None:
        """Pass `replacement` instead of what was withheld, and pass what follows."""
        self._passing = True
        self._removed += self._position - self._held_at - len(replacement)
        self._replacement = replacement

    def end(self) -> None:
        """Check that the stream ended after a whole message.

        Raises: FilterError when it did not.
        """
        if not self.is_at_boundary:
            raise FilterError(FilterFault.TRUNCATED, "stream ends within a message")
