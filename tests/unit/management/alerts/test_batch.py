# SPDX-License-Identifier: Apache-2.0
"""Alerts as an e-mail and as the body of a webhook."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from systemvm.management.alerts.batch import Batch, signature
from systemvm.management.alerts.peer import is_another_machine, is_no_control_address
from systemvm.management.state.alerts import Alert, AlertType

MOMENT = datetime(2026, 11, 29, 18, 5, tzinfo=UTC)


def batch(*texts: str, omitted: int = 0) -> Batch:
    return Batch(
        "host-1",
        [Alert(number, f"id-{number}", AlertType.HOST, text, MOMENT) for number, text in enumerate(texts)],
        omitted,
    )


def test_a_mail_says_what_happened_and_how_much_more() -> None:
    message = batch("host-2 does not answer", "host-3 neither", omitted=7).mail(
        "c@x.test", ["a@x.test", "b@x.test"]
    )
    assert message["Subject"] == "[systemvm host-1] ALERT.COMPUTE.HOST: host-2 does not answer (and 8 more)"
    assert (message["From"], message["To"]) == ("c@x.test", "a@x.test, b@x.test")
    assert message["Auto-Submitted"] == "auto-generated"
    text = message.get_content()
    assert text.startswith("2026-11-29 18:05:00 UTC  ALERT.COMPUTE.HOST\n  host-2 does not answer\n")
    assert text.endswith("and 7 older alerts: see listAlerts\n")


def test_a_repetition_has_the_same_id_until_something_new_happens() -> None:
    first = batch("a")
    assert first.id == batch("a", "an older one").id == "id-0"
    assert first.mail("c@x.test", ["a@x.test"])["Message-ID"] == "<id-0@systemvm.invalid>"
    newer = Batch("host-1", [Alert(9, "id-9", AlertType.HOST, "b", MOMENT), *first.alerts])
    assert newer.id == "id-9"
    assert [each["id"] for each in json.loads(newer.body())["alerts"]] == ["id-9", "id-0"]


@pytest.mark.parametrize("text", ["a\r\nBcc: eve@x.test", "a\n\n.\nQUIT", "ü" * 500])
def test_a_description_adds_no_header(text: str) -> None:
    raw = bytes(batch(text).mail("c@x.test", ["a@x.test"])).split(b"\n\n")[0]
    names = [line.split(b":")[0] for line in raw.split(b"\n") if not line.startswith(b" ")]
    assert names == [
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"Content-Type",
        b"Content-Transfer-Encoding", b"MIME-Version",
    ]  # fmt: skip


def test_a_body_has_the_keys_of_list_alerts() -> None:
    body = json.loads(batch("one", omitted=3).body())
    assert body == {
        "host": "host-1",
        "omitted": 3,
        "alerts": [
            {
                "id": "id-0",
                "type": 7,
                "name": "ALERT.COMPUTE.HOST",
                "description": "one",
                "sent": "2026-11-29T18:05:00Z",
            }
        ],
    }


def test_a_signature_is_hmac_sha256() -> None:
    """RFC 4231, test case 2."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert signature(b"what do ya want for nothing?", "Jefe") == expected


@pytest.mark.parametrize(
    ("text", "by_webhook", "by_mail"),
    [
        ("203.0.113.9", True, True),
        ("10.11.0.5", True, True),
        ("2001:db8::9", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("::ffff:169.254.3.4", False, False),
        ("::ffff:203.0.113.9", True, True),
        ("169.254.3.4", False, False),
        ("fe80::1", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
    ],
)
def test_alerts_go_to_no_control_address(text: str, by_webhook: bool, by_mail: bool) -> None:
    address = ip_address(text)
    assert (is_another_machine(address), is_no_control_address(address)) == (by_webhook, by_mail)
