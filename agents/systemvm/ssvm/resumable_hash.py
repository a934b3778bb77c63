# SPDX-License-Identifier: Apache-2.0
"""A digest whose state can be saved, so that another process continues it without reading the bytes again.

hashlib cannot save a state. The low-level functions of libcrypto keep it in a plain struct of integers
(openssl/sha.h, openssl/md5.h) and are as fast. They are deprecated: without them the digest is hashlib's.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from functools import lru_cache
from typing import Any

_LIBRARY = "libcrypto.so.3"
#: Larger than the largest struct, SHA512_CTX with 216 bytes.
_STATE_BYTES = 256
_PREFIXES = {
    "md5": "MD5",
    "sha1": "SHA1",
    "sha224": "SHA224",
    "sha256": "SHA256",
    "sha384": "SHA384",
    "sha512": "SHA512",
}


class ResumableHash:
    """The digest `name` of hashlib, from its beginning or from a saved state."""

    def __init__(self, name: str, state: bytes | None = None) -> None:
        self._name = name
        self._functions = _functions(name)
        self._plain = None if self._functions else hashlib.new(name, usedforsecurity=False)
        self._context = ctypes.create_string_buffer(_STATE_BYTES)
        if self._functions is None:
            if state is not None:
                raise ValueError("a saved state of a digest needs libcrypto")
        elif state is None:
            self._functions[0](self._context)
        else:
            tag, _, saved = state.partition(b"\n")
            if tag != self._tag or len(saved) != _STATE_BYTES:
                raise ValueError("the state of the digest was saved by another library")
            self._context.raw = saved

    def update(self, data: bytes | memoryview) -> None:
        """Hash more bytes, without a copy of a writable buffer; other threads run meanwhile."""
        if self._plain is not None:
            self._plain.update(data)
        elif self._functions is not None and len(data):
            if isinstance(data, bytes) or data.readonly:
                self._functions[1](self._context, bytes(data), len(data))
            else:
                start = ctypes.byref(ctypes.c_char.from_buffer(data))
                self._functions[1](self._context, start, len(data))

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far; more can follow."""
        if self._plain is not None:
            return self._plain.hexdigest()
        copy = ctypes.create_string_buffer(self._context.raw, _STATE_BYTES)
        digest = ctypes.create_string_buffer(64)
        if self._functions is not None:
            self._functions[2](digest, copy)
        return digest.raw[: hashlib.new(self._name, usedforsecurity=False).digest_size].hex()

    def save(self) -> bytes | None:
        """Return the state; None when this library cannot save it."""
        return None if self._functions is None else self._tag + b"\n" + self._context.raw

    @property
    def _tag(self) -> bytes:
        return f"{self._name} {_LIBRARY} {sys.byteorder} {ctypes.sizeof(ctypes.c_long)}".encode()


@lru_cache(maxsize=len(_PREFIXES))
def _functions(name: str) -> tuple[Any, Any, Any] | None:
    """Return Init, Update and Final; None unless they compute what hashlib computes."""
    try:
        library = ctypes.CDLL(_LIBRARY)
        prefix = _PREFIXES[name]
        begin, update, end = (getattr(library, f"{prefix}_{what}") for what in ("Init", "Update", "Final"))
    except (OSError, AttributeError, KeyError):
        return None
    begin.argtypes = [ctypes.c_char_p]
    update.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
    end.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    context, digest = ctypes.create_string_buffer(_STATE_BYTES), ctypes.create_string_buffer(64)
    begin(context)
    update(context, b"check", 5)
    end(digest, context)
    expected = hashlib.new(name, b"check", usedforsecurity=False).digest()
    return (begin, update, end) if digest.raw.startswith(expected) else None


def load() -> None:
    """Load the library now, in a process that movers are forked from."""
    for name in _PREFIXES:
        _functions(name)
