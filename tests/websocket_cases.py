# SPDX-License-Identifier: Apache-2.0
"""Conversations of a client with a WebSocket server that echoes, and the answers that RFC 6455 requires.

The table covers framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing and sizes. Its UTF-8 is
that of Markus Kuhn's decoder test.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = bytes.fromhex("c35a0ff0")
MIB = 1 << 20

#: What the client receives: the kind and payload of a message, or `close` and its code.
Answer = tuple[str, bytes] | tuple[str, int]
PROTOCOL_ERROR: list[Answer] = [("close", 1002)]
NOT_UTF8: list[Answer] = [("close", 1007)]
TOO_BIG: list[Answer] = [("close", 1009)]


@frozen
class Case:
    """Frames that a client sends, and what it must receive, in this order and nothing else."""

    name: str
    frames: list[bytes]
    answers: list[Answer]


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a masked frame."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    key = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
    return bytes([final << 7 | reserved << 4 | opcode]) + length + MASK + masked


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def fragments(opcode: int, *parts: bytes) -> list[bytes]:
    """Return the frames of one message in parts."""
    last = len(parts) - 1
    return [frame(CONTINUATION if at else opcode, part, final=at == last) for at, part in enumerate(parts)]


def cut(payload: bytes, size: int) -> list[bytes]:
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def cases() -> dict[str, list[Case]]:
    """Return all cases by subject."""
    return {
        "framing": list(_framing()),
        "pings": list(_pings()),
        "reserved bits": list(_reserved_bits()),
        "opcodes": list(_opcodes()),
        "fragmentation": list(_fragmentation()),
        "UTF-8": list(_utf8()),
        "closing": list(_closing()),
        "close codes": list(_close_codes()),
        "sizes": list(_sizes()),
    }


def _kinds(name: str, frames: list[bytes], answers: list[Answer]) -> Case:
    return Case(name, [*frames, close(1000)], [*answers, ("close", 1000)])


def _framing() -> Iterator[Case]:
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 65537):
        yield _kinds(f"text of {size} bytes", [frame(TEXT, b"*" * size)], [("text", b"*" * size)])
        binary = bytes(number % 251 for number in range(size))
        yield _kinds(f"binary of {size} bytes", [frame(BINARY, binary)], [("binary", binary)])
    yield Case("a frame without a mask", [b"\x82\x03abc"], PROTOCOL_ERROR)
    yield Case("a ping without a mask", [b"\x89\x00"], PROTOCOL_ERROR)
    yield Case("125 bytes in a length of 16 bits", [b"\x82\xfe\x00\x7d" + MASK], PROTOCOL_ERROR)
    yield Case(
        "65,535 bytes in one of 64 bits", [b"\x82\xff" + (65535).to_bytes(8, "big") + MASK], PROTOCOL_ERROR
    )
    yield Case("a length with its highest bit", [b"\x82\xff" + b"\x80" + bytes(7) + MASK], PROTOCOL_ERROR)


def _pings() -> Iterator[Case]:
    for name, payload in (
        ("empty", b""), ("text", b"Hello, world!"), ("binary", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        ("125 bytes", b"\xfe" * 125),
    ):  # fmt: skip
        yield _kinds(f"ping, {name}", [frame(PING, payload)], [("pong", payload)])
        yield _kinds(f"unsolicited pong, {name}", [frame(PONG, payload)], [])
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close frame")):
        yield Case(f"{name} of 126 bytes", [frame(opcode, b"\x03\xe8" + b"x" * 124)], PROTOCOL_ERROR)
    yield _kinds("pong, then ping", [frame(PONG, b"a"), frame(PING, b"b")], [("pong", b"b")])
    ten = [f"payload-{number}".encode() for number in range(10)]
    yield _kinds("ten pings", [frame(PING, each) for each in ten], [("pong", each) for each in ten])


def _reserved_bits() -> Iterator[Case]:
    for bits in range(1, 8):
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
            yield Case(
                f"reserved bits {bits:03b} of opcode {opcode}",
                [frame(TEXT, b"before"), frame(opcode, b"", reserved=bits), frame(PING)],
                [("text", b"before"), *PROTOCOL_ERROR],
            )
    yield Case(
        "reserved bit of a continuation",
        [frame(TEXT, b"be", final=False), frame(CONTINUATION, b"fore", reserved=4)],
        PROTOCOL_ERROR,
    )


def _opcodes() -> Iterator[Case]:
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"payload"):
            yield Case(
                f"opcode {opcode} with {len(payload)} bytes",
                [frame(TEXT, b"before"), frame(opcode, payload), frame(PING)],
                [("text", b"before"), *PROTOCOL_ERROR],
            )


def _fragmentation() -> Iterator[Case]:
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close frame")):
        fragment = [frame(opcode, b"\x03\xe8", final=False), frame(CONTINUATION, b"b")]
        yield Case(f"fragments of a {name}", fragment, PROTOCOL_ERROR)
    for opcode, kind in ((TEXT, "text"), (BINARY, "binary")):
        yield _kinds(f"{kind} in 2 fragments", fragments(opcode, b"one", b"two"), [(kind, b"onetwo")])
        first, second = fragments(opcode, b"one", b"two")
        ping = frame(PING, b"ping")
        yield _kinds(
            f"{kind} in 2 fragments, a ping between",
            [first, ping, second],
            [("pong", b"ping"), (kind, b"onetwo")],
        )
        five = fragments(opcode, b"1", b"2", b"3", b"4", b"5")
        pings = [*five[:2], frame(PING, b"a"), *five[2:4], frame(PING, b"b"), five[4]]
        answers: list[Answer] = [("pong", b"a"), ("pong", b"b"), (kind, b"12345")]
        yield _kinds(f"{kind} in 5 fragments, 2 pings between", pings, answers)
        yield _kinds(f"{kind} in 3 fragments of nothing", fragments(opcode, b"", b"", b""), [(kind, b"")])
        empty = fragments(opcode, b"", b"middle", b"")
        yield _kinds(f"{kind} between fragments of nothing", empty, [(kind, b"middle")])
        for number in (TEXT, BINARY):
            yield Case(
                f"{kind}, then opcode {number} instead of its end",
                [first, frame(number, b"two")],
                PROTOCOL_ERROR,
            )
        for final in (True, False):
            nothing = frame(CONTINUATION, b"no", final=final)
            wrong: list[Answer] = [(kind, b"onetwo"), *PROTOCOL_ERROR]
            name = "a last" if final else "a"
            yield Case(f"{name} continuation after {kind}", [first, second, nothing, frame(opcode)], wrong)
    for final in (True, False):
        nothing = frame(CONTINUATION, b"no", final=final)
        name = "a last" if final else "a"
        yield Case(f"{name} continuation of nothing", [nothing, frame(TEXT, b"text")], PROTOCOL_ERROR)
    parts = cut(b"*" * 65536, 1300)
    yield _kinds("text in fragments of 1,300 bytes", fragments(TEXT, *parts), [("text", b"*" * 65536)])


_VALID = [
    "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000",
    "\ufffd", "\ufffe", "\uffff", "\ufdd0", "\U00010000", "\U0010ffff", "\U0001fffe", "\U0001ffff",
    "\U000ffffe",
]  # fmt: skip

_INVALID = [
    # beyond U+10FFFF, and sequences of five and six bytes
    "f4908080", "f7bfbfbf", "f888808080", "fbbfbfbfbf", "fc8480808080", "fdbfbfbfbfbf",
    # continuation bytes alone
    "80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", bytes(range(0x80, 0xc0)).hex(),
    # first bytes alone
    *(f"{byte:02x}20" for byte in range(0xc0, 0xfe)),
    # the last byte is missing
    "c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf",
    "cebae1bdb9cf83cebcceb5eda080656469746564", "c0e080f08080f8808080fc80808080dfefbff7bfbf",
    # bytes that never occur
    "fe", "ff", "fefeffff",
    # longer than necessary
    "c0af", "e080af", "f08080af", "f8808080af", "fc80808080af", "c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf",
    "fc83bfbfbfbf", "c080", "e08080", "f0808080", "f880808080", "fc8080808080",
    # surrogates, alone and in pairs
    "eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf", "eda080edb080", "eda080edbfbf",
    "edadbfedb080", "edadbfedbfbf", "edae80edb080", "edae80edbfbf", "edafbfedb080", "edafbfedbfbf",
]  # fmt: skip


def _utf8() -> Iterator[Case]:
    for text in _VALID:
        payload = text.encode("utf-8")
        yield _kinds(f"UTF-8 {payload.hex()}", [frame(TEXT, payload)], [("text", payload)])
        octets = fragments(TEXT, *cut(payload, 1))
        yield _kinds(f"UTF-8 {payload.hex()}, a fragment a byte", octets, [("text", payload)])
    for digits in _INVALID:
        payload = bytes.fromhex(digits)
        yield Case(f"not UTF-8: {digits}", [frame(TEXT, payload), frame(PING)], NOT_UTF8)
        octets = fragments(TEXT, b"before ", *cut(payload, 1), b" after")
        # What is sent back before the error is the beginning of a message that never ends.
        yield Case(f"not UTF-8: {digits}, a fragment a byte", octets, NOT_UTF8)
        yield _kinds(f"binary {digits}", [frame(BINARY, payload)], [("binary", payload)])


def _closing() -> Iterator[Case]:
    hello = frame(TEXT, b"Hello")
    echoed: Answer = ("text", b"Hello")
    normal: Answer = ("close", 1000)
    yield Case("a message and the end", [hello, close(1000)], [echoed, normal])
    yield Case("two close frames", [close(1000), close(1000)], [normal])
    yield Case("a ping after the close frame", [close(1000), frame(PING)], [normal])
    yield Case("a message after the close frame", [close(1000), hello], [normal])
    yield Case("garbage after the close frame", [close(1000), b"\xff" * 20], [normal])
    first, second = fragments(TEXT, b"Hel", b"lo")
    yield Case("a close frame between fragments", [first, close(1000), second], [normal])
    large = b"Hello" * 52_429
    yield Case(
        "256 KiB, close frame, ping",
        [frame(TEXT, large), close(1000), frame(PING)],
        [("text", large), normal],
    )
    yield Case("an empty close frame", [frame(CLOSE)], [normal])
    yield Case("a close frame of 1 byte", [frame(CLOSE, b"a")], PROTOCOL_ERROR)
    for size in (1, 122, 123):
        yield Case(f"a reason of {size} bytes", [close(1000, b"*" * size)], [normal])
    yield Case("a reason of 124 bytes", [close(1000, b"*" * 124)], PROTOCOL_ERROR)
    yield Case("a reason in UTF-8", [close(1000, "größer €".encode())], [normal])
    for digits in ("cebae1bdb9cf83cebcceb5eda080656469746564", "c3", "ff"):
        yield Case(f"a reason that is not UTF-8: {digits}", [close(1000, bytes.fromhex(digits))], NOT_UTF8)


def _close_codes() -> Iterator[Case]:
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"code {code}", [close(code)], [("close", code)])
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"invalid code {code}", [close(code)], PROTOCOL_ERROR)


def _sizes() -> Iterator[Case]:
    for opcode, kind in ((TEXT, "text"), (BINARY, "binary")):
        for size in (256 << 10, MIB, 4 * MIB, 16 * MIB):
            payload = b"\x2a" * size
            yield _kinds(f"{kind} of {size >> 10} KiB", [frame(opcode, payload)], [(kind, payload)])
        for total, size in ((MIB, 64), (4 * MIB, 1024), (4 * MIB, 64 << 10), (4 * MIB, MIB)):
            parts = fragments(opcode, *cut(b"\x2a" * total, size))
            name = f"{kind} of {total >> 20} MiB in fragments of {size} bytes"
            yield _kinds(name, parts, [(kind, b"\x2a" * total)])
        for size in (0, 16, 64, 256, 1024, 4096, 16384):
            payload = b"\x2a" * size
            yield _kinds(
                f"1,000 times {kind} of {size} bytes",
                [frame(opcode, payload)] * 1000,
                [(kind, payload)] * 1000,
            )
        header = frame(opcode, bytes(70_000))[:2] + (16 * MIB + 1).to_bytes(8, "big") + MASK
        yield Case(f"{kind} of one byte too many", [header], TOO_BIG)
        whole = frame(opcode, bytes(16 * MIB), final=False)
        yield Case(f"{kind} of one byte too many in fragments", [whole, frame(CONTINUATION, b"x")], TOO_BIG)
