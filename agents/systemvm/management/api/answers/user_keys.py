# SPDX-License-Identifier: Apache-2.0
"""`userkey` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class UserKeyAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    userid: str = required_key("UUID of the user")
    username: str = required_key("name of the user")
    apikey: str = field(repr=False, metadata={"description": "the API key"})
    secretkey: str | None = field(
        default=None, repr=False, metadata={"description": "the secret key, when it is created only"}
    )
    created: datetime = required_key("when it was created")
    enddate: datetime | None = optional_key("when it ends")
    rules: list[str] | None = optional_key("commands that it can call; without it all that its user can")
