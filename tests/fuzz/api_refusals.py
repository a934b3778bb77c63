# SPDX-License-Identifier: Apache-2.0
"""Which parameter the refusals of fuzzed calls name: one that can be at fault, and never another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from fuzz.api_calls import Call
from systemvm.management.api.command import Command
from systemvm.management.api.errors import ErrorCode

#: Refusals that are about a parameter.
ABOUT_PARAMETERS = (ErrorCode.MALFORMED_PARAMETER, ErrorCode.PARAMETER, ErrorCode.RESOURCE_IN_USE)
#: It is refused while a setting is off, whatever is sent.
_OF_A_SETTING = ("setupUserTwoFactorAuthentication",)
#: Parameters whose values depend on others of the call.
_DEPENDING = {
    "createAccount": ("username",),  # another account of that name is refused first
    "createSnapshotPolicy": ("schedule",),
    "listUsageRecords": ("startdate",),
}


@define
class Refusals:
    """Those of one command, whose calls differ from the plain one in one parameter.

    `objects` are ids of objects, which can be in a state that excludes a call that is as it should be.
    """

    command: Command
    plain: Call
    objects: frozenset[str]
    faults: list[str] = field(factory=list)
    _plain_refusal: str | None = None  # the parameter; empty: it is not refused; None: it was not sent
    _as_in_plain: dict[str, str] = field(factory=dict)  # by parameter: the refusal that names it

    def add(self, call: Call, what: str, status: int, body: Mapping[str, Any]) -> None:
        """Check the answer of a call."""
        parameter = str(body.get("parameter", "")).partition("[")[0]  # of a map it can be one entry
        if call == self.plain:
            self._plain_refusal = parameter if status in ABOUT_PARAMETERS else ""
        if status not in ABOUT_PARAMETERS or self.command.name in _OF_A_SETTING:
            return
        sent = {name: value for name, value in call.items() if name.partition("[")[0] == parameter}
        if not sent and parameter not in [each.name for each in self.command.all_parameters]:
            self.faults.append(f"{what}: answers {status} without its parameter: {body}")
        elif sent and sent.items() <= self.plain.items() and call != self.plain:
            self._as_in_plain[parameter] = f"{what}: blames {parameter}, which is as it should be: {body}"

    def check_blame(self) -> None:
        """Check that what is as it should be is blamed only where the plain call is refused for it, too."""
        if self._plain_refusal is None:
            return
        for parameter, why in self._as_in_plain.items():
            can_be_refused = self.plain.get(parameter) in self.objects
            depends = parameter in _DEPENDING.get(self.command.name, ())
            if parameter != self._plain_refusal and not can_be_refused and not depends:
                self.faults.append(why)
