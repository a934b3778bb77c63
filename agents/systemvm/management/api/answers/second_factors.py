# SPDX-License-Identifier: Apache-2.0
"""Answers of the commands of second factors."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class SecondFactorAnswer:
    id: str = required_key("UUID of the user")
    username: str = required_key("name of the user")
    accountid: str = required_key("UUID of the user's account")
    secretcode: str | None = optional_key("the secret in base32; none when it was disabled")
    uri: str | None = optional_key("the same as an otpauth URI; an addition to CloudStack's keys")
    qrcode: list[str] | None = optional_key(
        "the URI as a QR code, a text for each row with 1 for each dark module; an addition, too"
    )


@frozen(kw_only=True)
class SecondFactorProviderAnswer:
    name: str = required_key("the name")
    description: str = required_key("what it is")
