# SPDX-License-Identifier: Apache-2.0
"""`consolerecording` and `consolerecordingrule` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class RecordingAnswer:
    """The recording of one connection of a console."""

    id: str = required_key("the UUID")
    kind: str = required_key("what it shows: screen or serial, a serial port")
    created: datetime = required_key("when the recording began")
    ended: datetime | None = optional_key("when it ended")
    state: str = required_key("Recording, Complete, or Incomplete: its end is missing, or it ended early")
    endcode: str | None = optional_key("why it ended, for programs")
    size: int = required_key("bytes that are stored")
    encrypted: bool = required_key("whether the file is encrypted")
    virtualmachineid: str = required_key("UUID of the virtual machine")
    virtualmachinename: str = required_key("name of the virtual machine")
    consolesessionid: str = required_key("UUID of the console session")
    user: str = required_key("name of the user who had the console open")
    userid: str = required_key("the user's UUID")
    account: str = required_key("account of the virtual machine's owner")
    domainid: str = required_key("UUID of the account's domain")
    zoneid: str = required_key("UUID of the zone")


@frozen(kw_only=True)
class RecordingAccessAnswer:
    """What a player needs."""

    id: str = required_key("UUID of the recording")
    url: str = required_key("address of the page that plays it, for users who are logged in")
    key: str | None = optional_key("the key of an encrypted file: AES-256-GCM, hexadecimal")


@frozen(kw_only=True)
class RecordingContentAnswer:
    """A part of a recording's file."""

    id: str = required_key("UUID of the recording")
    offset: int = required_key("of the first byte in the file")
    data: str = required_key("the bytes in Base64; empty behind the end")
    size: int = required_key("bytes of the file now")
    state: str = required_key("Recording, Complete or Incomplete")


@frozen(kw_only=True)
class RecordingRuleAnswer:
    """Whether the consoles of a virtual machine or an account are recorded."""

    record: str = required_key("off, on, required, or inherit: as the account or the zone says")
    virtualmachineid: str | None = optional_key("UUID of the virtual machine")
    virtualmachinename: str | None = optional_key("name of the virtual machine")
    account: str | None = optional_key("name of the account")
    domainid: str | None = optional_key("UUID of the account's domain")
