# SPDX-License-Identifier: Apache-2.0
"""`annotation` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class AnnotationAnswer:
    """A text that somebody wrote about an object."""

    id: str = required_key("its UUID")
    entitytype: str = required_key("type of the object, such as VM or HOST")
    entityid: str = required_key("UUID of the object")
    entityname: str | None = optional_key("name of the object")
    annotation: str = required_key("the text")
    userid: str = required_key("UUID of the user who wrote it")
    username: str = required_key("login name of that user")
    adminsonly: bool = required_key("whether only root administrators see it")
    created: datetime = required_key("when it was written")
