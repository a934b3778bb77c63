# SPDX-License-Identifier: Apache-2.0
"""The parts of a stream that an inspector asks for: ranges by their offset, and the last bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

Data = bytes | bytearray | memoryview


@define
class _Range:
    what: str
    offset: int
    length: int
    then: Callable[..., None]
    arguments: tuple[Any, ...]
    partial: bool
    data: bytearray = field(factory=bytearray)

    @property
    def end(self) -> int:
        return self.offset + self.length


class ImageStream:
    """Collects ranges while the bytes pass. Nothing else is kept, so memory is bounded by what is wanted."""

    def __init__(self, tail_bytes: int = 0) -> None:
        self.position = 0
        self.tail_bytes = tail_bytes
        self.tail = b""
        self._ranges: list[_Range] = []

    def want(
        self,
        what: str,
        offset: int,
        length: int,
        then: Callable[..., None],
        *arguments: Any,
        partial: bool = False,
    ) -> bool:
        """Have `then` called with a range and `arguments`; return False when the range has passed already.

        A partial range is delivered at the end of the stream as far as it came. `then` is a method or a
        function of a module, so that an inspection can be saved and continued.
        """
        if offset < self.position:
            return False
        self._ranges.append(_Range(what, offset, length, then, arguments, partial))
        return True

    def feed(self, data: Data) -> None:
        """Take the next bytes, range by range: the one that ends first can ask for others behind it."""
        view = memoryview(data)
        begin, end = self.position, self.position + len(view)
        while self._ranges:
            first = min(self._ranges, key=lambda each: each.end)
            stop = min(first.end, end)
            for each in self._ranges:
                start = max(each.offset, self.position)
                if start < stop:
                    each.data += view[start - begin : min(stop, each.end) - begin]
            self.position = stop
            if first.end > end:
                break
            self._ranges.remove(first)
            first.then(bytes(first.data), *first.arguments)
        self.position = end
        if self.tail_bytes:
            size = self.tail_bytes
            kept = bytes(view[-size:])
            self.tail = kept if len(kept) == size else (self.tail + kept)[-size:]

    @property
    def next_wanted(self) -> tuple[int, int] | None:
        """The offset of the next byte that is needed, and how many follow; None when only the tail is."""
        if not self._ranges:
            return None
        first = min(self._ranges, key=lambda each: max(self.position, each.offset))
        start = max(self.position, first.offset)
        return start, first.end - start

    def skip(self, count: int) -> None:
        """Pass bytes that nobody wants; the reader of a file leaves them out."""
        self.position += count
        self.tail = b""

    def end(self) -> str | None:
        """Deliver partial ranges; return what the stream ends within, or None."""
        ranges, self._ranges = self._ranges, []
        for each in ranges:
            if each.partial:
                each.then(bytes(each.data), *each.arguments)
        return next((each.what for each in ranges if not each.partial), None)
