# SPDX-License-Identifier: Apache-2.0
"""The only shape of a QEMU command line that is started.

Known options, the seccomp sandbox on, nothing that runs another program or makes a network of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from systemvm.service.unix_calls import RefusedError

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_BINARY = re.compile(r"qemu-system-[a-z0-9_]+")
_FLAGS = frozenset({"-S", "-nodefaults", "-no-user-config", "-no-reboot"})
_VALUED = frozenset(
    {
        *(
            "-accel",
            "-action",
            "-add-fd",
            "-append",
            "-bios",
            "-blockdev",
            "-boot",
            "-chardev",
            "-cpu",
            "-device",
        ),
        *("-display", "-drive", "-fw_cfg", "-global", "-initrd", "-kernel", "-m", "-machine", "-mon", "-msg"),
        *("-name", "-netdev", "-object", "-rtc", "-sandbox", "-serial", "-smbios", "-smp", "-uuid", "-vnc"),
    }
)
#: Values that could otherwise reach out of the process.
_SHAPES = {
    "-netdev": re.compile(r"tap,id=\w+,fd=\d+"),
    "-chardev": re.compile(r"(socket,id=\w+,fd=\d+|file,id=\w+),.*"),
    "-sandbox": re.compile(re.escape(SANDBOX)),
    "-mon": re.compile(r"chardev=\w+,mode=control"),
    "-serial": re.compile(r"chardev:\w+"),
}
_MOST_WORDS = 400


def check(argv: Sequence[object]) -> list[str]:
    """The same words; RefusedError for anything but a machine in the sandbox."""
    words = [word for word in argv if isinstance(word, str) and "\0" not in word]
    if not words or len(words) != len(argv) or len(words) > _MOST_WORDS:
        raise RefusedError("a command line is a list of words")
    if not _BINARY.fullmatch(words[0]):
        raise RefusedError(f"{words[0][:60]!r} is not QEMU")
    seen: set[str] = set()
    rest = iter(words[1:])
    for word in rest:
        if word in _FLAGS:
            continue
        if word not in _VALUED:
            raise RefusedError(f"{word[:60]!r} is no option that is passed on to QEMU")
        value = next(rest, None)
        if value is None:
            raise RefusedError(f"{word} needs a value")
        shape = _SHAPES.get(word)
        if shape is not None and not shape.fullmatch(value):
            raise RefusedError(f"{word} {value[:60]!r} is not passed on to QEMU")
        seen.add(word)
    for needed in ("-sandbox", "-uuid"):
        if needed not in seen:
            raise RefusedError(f"a machine is not started without {needed}")
    return words
