# SPDX-License-Identifier: Apache-2.0
"""The objects of the screen commands."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class ScreenAnswer:
    """A VM's screen at one moment."""

    virtualmachineid: str = required_key("UUID of the VM")
    width: int = required_key("width of the screen in pixels")
    height: int = required_key("height of the screen in pixels")
    hash: str = required_key("SHA-256 of the region's pixels, for waitForConsoleImage")
    image: str | None = optional_key("the whole screen as PNG, in Base64")


@frozen(kw_only=True)
class ScreenTextAnswer:
    """What is written on a VM's screen."""

    virtualmachineid: str = required_key("UUID of the VM")
    text: str = required_key("the text, line by line, as far as it could be read")
    hash: str = required_key("SHA-256 of the region's pixels, for waitForConsoleImage")


@frozen(kw_only=True)
class ThumbnailAnswer:
    """A small picture of a VM's screen."""

    virtualmachineid: str = required_key("UUID of the VM")
    width: int = required_key("width of the picture in pixels")
    height: int = required_key("height of the picture in pixels")
    hash: str = required_key("SHA-256 of the picture, for the parameter of this name")
    image: str | None = optional_key("the picture as PNG, in Base64, unless it has the hash of the call")


@frozen(kw_only=True)
class TypedAnswer:
    """What was typed."""

    virtualmachineid: str = required_key("UUID of the VM")
    success: bool = required_key("true")
