# SPDX-License-Identifier: Apache-2.0
"""What a guest's program reports on the serial console: a line with REASON, and one with HINT.

    systemvm-preinit: REASON=nic_absent there is no NIC eth3
    systemvm-preinit: HINT=it has eth0, eth1

A program reads the tokens only. The rest of a line is for people, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

INITRD, PREINIT, AGENT = "initrd", "systemvm-preinit", "systemvm-agent"
_REASON, _HINT = "REASON=", "HINT="


class SerialReport(NamedTuple):
    """One report; `reason` is a value of BootFailure, or "" from a program that is older than reasons."""

    program: str
    reason: str
    message: str
    hint: str = ""

    def lines(self) -> list[str]:
        """As they are written.

        >>> SerialReport(PREINIT, "nic_absent", "no NIC eth3", "it has eth0").lines()
        ['systemvm-preinit: REASON=nic_absent no NIC eth3', 'systemvm-preinit: HINT=it has eth0']
        """
        written = [f"{self.program}: {_REASON}{self.reason} {_one_line(self.message)}"]
        return [*written, f"{self.program}: {_HINT}{_one_line(self.hint)}"] if self.hint else written


def last_report(lines: Iterable[str]) -> SerialReport | None:
    """The newest report in a console's lines; None when no program reports anything.

    The name of a program can have a process id, as journald writes it: `systemvm-agent[91]: REASON=…`. What
    preinit writes without a reason is one too, since an image of before protocol 3 writes only a failure.
    """
    found: SerialReport | None = None
    for line in lines:
        program, colon, rest = line.strip().partition(": ")
        program = program.partition("[")[0]
        if not colon or program not in (INITRD, PREINIT, AGENT):
            continue
        if rest.startswith(_REASON):
            reason, _, message = rest.removeprefix(_REASON).partition(" ")
            found = SerialReport(program, reason, message)
        elif rest.startswith(_HINT) and found is not None and found.program == program:
            found = found._replace(hint=rest.removeprefix(_HINT))
        elif program == PREINIT:
            found = SerialReport(program, "", rest)
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
