# SPDX-License-Identifier: Apache-2.0
"""Alerts that are delivered together: as the text of an e-mail, and as the body of a webhook."""

from __future__ import annotations

import hashlib
import hmac
from email.message import EmailMessage
from email.utils import format_datetime

import msgspec
from attrs import frozen

from systemvm.management.state.alerts import Alert

#: Of one delivery. What waits beyond that is counted, and stands in listAlerts.
MOST = 100
#: CloudStack's webhooks (WebhookDeliveryThread.java) have these headers.
ID_HEADER, EVENT_HEADER, SIGNATURE_HEADER = "X-CS-Event-ID", "X-CS-Event", "X-CS-Signature"


@frozen
class Batch:
    """The newest alerts that were not delivered yet, the newest first, and how many older ones there are."""

    host: str  # that the daemon runs on
    alerts: list[Alert]
    omitted: int = 0

    @property
    def id(self) -> str:
        """That of the newest alert: a repetition has the same one, unless something new has happened.

        The id of each alert stays the same.
        """
        return self.alerts[0].uuid

    def mail(self, sender: str, recipients: list[str]) -> EmailMessage:
        newest, count = self.alerts[0], len(self.alerts) + self.omitted
        more = f" (and {count - 1} more)" if count > 1 else ""
        message = EmailMessage()
        message["From"], message["To"] = sender, ", ".join(recipients)
        # a description can have line breaks, which a header cannot
        message["Subject"] = (
            f"[systemvm {self.host}] {newest.type.title}: {_one_line(newest.description)}{more}"
        )
        message["Date"] = format_datetime(newest.created)
        message["Message-ID"] = f"<{self.id}@systemvm.invalid>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody answers it
        lines = [
            f"{each.created:%Y-%m-%d %H:%M:%S} UTC  {each.type.title}\n  {each.description}"
            for each in self.alerts
        ]
        if self.omitted:
            lines.append(f"and {self.omitted} older alerts: see listAlerts")
        message.set_content("\n\n".join(lines) + "\n")
        return message

    def body(self) -> bytes:
        return msgspec.json.encode(
            {
                "host": self.host,
                "omitted": self.omitted,
                "alerts": [
                    {
                        "id": each.uuid,
                        "type": each.type.number,
                        "name": each.type.title,
                        "description": each.description,
                        "sent": each.created,
                    }
                    for each in self.alerts
                ],
            }
        )


def signature(body: bytes, secret: str) -> str:
    """Return the HMAC-SHA256 of a body in hexadecimal digits."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:119]}…"
