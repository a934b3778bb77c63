# SPDX-License-Identifier: Apache-2.0
"""A setting as data: its name, its default and the values that it takes."""

from __future__ import annotations

from attrs import frozen

from systemvm.service.errors import FailureCode, SystemVmError


class SettingError(SystemVmError):
    """A value that a setting does not take."""

    code = FailureCode.INVALID


@frozen(kw_only=True)
class Setting:
    """A setting of a zone; without `least` and `most` it is true or false."""

    name: str
    default: int | bool
    description: str
    least: int = 0
    most: int = 0
    unit: str = ""
    group: str = "Console Proxy"

    @property
    def type_name(self) -> str:
        return "Boolean" if isinstance(self.default, bool) else "Number"

    def parse(self, text: str) -> int | bool:
        """Return the value of a text.

        Raises: SettingError when the setting does not take it.
        """
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

    def text(self, value: int | bool) -> str:
        return str(value).lower()
