# SPDX-License-Identifier: Apache-2.0
"""What a target of the fuzzer is: a parser as a function of bytes, with inputs to begin from.

A target returns for every input, or fails: its parser may raise the errors that it declares, and no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from attrs import frozen

MIB = 1 << 20


@frozen
class Target:
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


def declared(call: Callable[[], object], *errors: type[Exception]) -> None:
    with contextlib.suppress(*errors):
        call()


def of_text(read: Callable[[str], object], *errors: type[Exception]) -> Callable[[bytes], None]:
    return lambda data: declared(lambda: read(data.decode(errors="replace")), *errors)


def of_bytes(read: Callable[[bytes], object], *errors: type[Exception]) -> Callable[[bytes], None]:
    return lambda data: declared(lambda: read(data), *errors)


def headers_of(lines: Sequence[str]) -> dict[str, list[str]]:
    """Return all values of each header, as the programs get them from their HTTP libraries."""
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return headers


def head_of(data: bytes) -> tuple[int, dict[str, list[str]]]:
    """Return a status, which the first two bytes are, and headers."""
    return int.from_bytes(data[:2], "big") % 600, headers_of(data[2:].decode("latin-1").split("\n"))
