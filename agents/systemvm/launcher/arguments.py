# SPDX-License-Identifier: Apache-2.0
"""Checks a QEMU command line: only known options, with the seccomp sandbox.

No option may run another program or make a network.
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
#: The forms of values that could otherwise affect more than the process.
_VALUE_FORMS = {
    "-netdev": re.compile(r"tap,id=\w+,fd=\d+"),
    "-chardev": re.compile(r"(socket,id=\w+,fd=\d+|file,id=\w+|qemu-vdagent,id=\w+),.*"),
    "-sandbox": re.compile(re.escape(SANDBOX)),
    "-mon": re.compile(r"chardev=\w+,mode=control"),
    "-serial": re.compile(r"chardev:\w+"),
}
_MAX_ARGUMENTS = 400


def check(argv: Sequence[object]) -> list[str]:
    """Return the arguments unchanged.

    Raises: RefusedError when they are not an allowed QEMU command line.
    """
    arguments = [argument for argument in argv if isinstance(argument, str) and "\0" not in argument]
    if not arguments or len(arguments) != len(argv) or len(arguments) > _MAX_ARGUMENTS:
        raise RefusedError(f"argv must be a list of at most {_MAX_ARGUMENTS} strings")
    if not _BINARY.fullmatch(arguments[0]):
        raise RefusedError(f"{arguments[0][:60]!r} is not QEMU")
    seen: set[str] = set()
    rest = iter(arguments[1:])
    for option in rest:
        if option in _FLAGS:
            continue
        if option not in _VALUED:
            raise RefusedError(f"QEMU option is not allowed: {option[:60]!r}")
        value = next(rest, None)
        if value is None:
            raise RefusedError(f"QEMU option {option} has no value")
        form = _VALUE_FORMS.get(option)
        if form is not None and not form.fullmatch(value):
            raise RefusedError(f"value of QEMU option is not allowed: {option} {value[:60]!r}")
        seen.add(option)
    for needed in ("-sandbox", "-uuid"):
        if needed not in seen:
            raise RefusedError(f"QEMU option is missing: {needed}")
    return arguments
