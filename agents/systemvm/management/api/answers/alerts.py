# SPDX-License-Identifier: Apache-2.0
"""`alert` and `alerttype` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class AlertAnswer:
    """Something that an operator must know of."""

    id: str = required_key("the UUID")
    type: int = required_key("6 secondary storage, 7 host, 10 console proxy, 19 SSVM, 28 upload, 31 CA")
    name: str = required_key("CloudStack's name of the type, for example ALERT.SERVICE.SSVM")
    description: str = required_key("what happened")
    sent: datetime = required_key("when")


@frozen(kw_only=True)
class AlertTypeAnswer:
    alerttypeid: int = required_key("CloudStack's number")
    name: str = required_key("CloudStack's name, for example ALERT.SERVICE.SSVM")
