# SPDX-License-Identifier: Apache-2.0
"""A setting as data: its name, its default and the values that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from systemvm.service.errors import FailureCode, SystemVmError


class SettingError(SystemVmError):
    """A value that a setting does not take."""

    code = FailureCode.INVALID
    parameter = "value"


@frozen(kw_only=True)
class Setting:
    """A setting: a number, true or false, or a text, which `check` reads."""

    name: str
    default: int | bool | str
    description: str
    least: int = 0
    most: int = 0
    unit: str = ""
    group: str = "Console Proxy"
    scope: str = "zone"  # zone: a zone can have a value of its own; global: none can
    check: Callable[[str], str] = str
    is_secret: bool = False  # stored sealed, and never shown

    @property
    def type_name(self) -> str:
        if isinstance(self.default, str):
            return "String"
        return "Boolean" if isinstance(self.default, bool) else "Number"

    def value_in(self, changed: Mapping[str, str]) -> int | bool | str:
        """Return the value that holds, where `changed` has the texts of settings without their default."""
        text = changed.get(self.name)
        return self.default if text is None else self.parse(text)

    def parse(self, text: str) -> int | bool | str:
        """Return the value of a text.

        Raises: SettingError when the setting does not take it.
        """
        if isinstance(self.default, str):
            try:
                return self.check(text)
            except SettingError as wrong:
                raise SettingError(f"{self.name}: {wrong.message}") from None
        if isinstance(self.default, bool):
            if text.lower() not in ("true", "false"):
                raise SettingError(f"{self.name} must be true or false: {text!r}")
            return text.lower() == "true"
        unit = f" {self.unit}" if self.unit else ""
        limits = f"{self.name} must be a whole number from {self.least} to {self.most}{unit}: {text!r}"
        try:
            value = int(text)
        except ValueError:
            raise SettingError(limits) from None
        if not self.least <= value <= self.most:
            raise SettingError(limits)
        return value

    def text(self, value: int | bool | str) -> str:
        return value if isinstance(value, str) else str(value).lower()
