# SPDX-License-Identifier: Apache-2.0
"""Alerts by their ways out: each one once, again after failures, and never more than a message at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import capturedLogs

from api_requests import refusal
from small_cloud import SmallCloud
from systemvm.management.alerts.batch import Batch
from systemvm.management.alerts.delivery import CLAIM, AlertDelivery, Sender
from systemvm.management.alerts.errors import DeliveryError
from systemvm.management.alerts.mail import MailServer
from systemvm.management.alerts.webhook import Webhook
from systemvm.management.api.commands.configurations import HIDDEN
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import alert_deliveries, events
from systemvm.management.state.columns import now

URL = "https://hooks.example.test/secret-path"
MAIL = {
    "alert.smtp.host": "mail.example.test",
    "alert.email.sender": "cloud@example.test",
    "alert.email.addresses": "ann@example.test, bob@example.test",
}


@define
class Outbox:
    """Takes batches in place of servers; `problem` is what each attempt ends with."""

    cloud: SmallCloud
    time: datetime = field(factory=now)
    problem: Exception | None = None
    hooks: list[tuple[Webhook, Batch]] = field(factory=list)
    mails: list[tuple[MailServer, Batch]] = field(factory=list)

    def delivery(self, in_thread: Callable[[Sender, Batch], Deferred[None]] = maybeDeferred) -> AlertDelivery:
        """Return a new delivery, as after a restart."""
        return AlertDelivery(
            self.cloud.clock,
            self.cloud.database,
            self.cloud.seal,
            "host-1",
            in_thread=in_thread,
            send_mail=lambda server, batch: self._take(self.mails, (server, batch)),
            send_webhook=lambda hook, batch: self._take(self.hooks, (hook, batch)),
            moment=lambda: self.time,
            uniform=lambda low, high: high,
        )

    def _take(self, box: list[Any], what: Any) -> None:
        if self.problem is not None:
            raise self.problem
        box.append(what)

    async def after(self, seconds: float) -> list[list[str]]:
        """Deliver after a time; return what the webhook has got, by description."""
        self.time += timedelta(seconds=seconds)
        await self.delivery().deliver()
        return [[alert.description for alert in batch.alerts] for _, batch in self.hooks]


@pytest.fixture
def outbox(cloud: SmallCloud) -> Outbox:
    return Outbox(cloud)


async def put(cloud: SmallCloud, **values: str) -> None:
    for name, value in values.items():
        await cloud.call("updateConfiguration", name=name, value=value)


def happen(cloud: SmallCloud, *texts: str) -> None:
    for text in texts:
        cloud.database.run_now(events.record, "HOST.ALERT", text, level="WARN")


@pytest_twisted.ensureDeferred
async def test_each_alert_goes_out_once(cloud: SmallCloud, outbox: Outbox) -> None:
    happen(cloud, "before")
    await put(cloud, **{"alert.webhook.url": URL})
    assert await outbox.after(0) == []  # it begins now: the old ones are not sent
    happen(cloud, "first", "second")
    assert await outbox.after(10) == [["second", "first"]]
    assert await outbox.after(10) == [["second", "first"]]
    happen(cloud, "third")
    assert (await outbox.after(10))[1:] == [["third"]]


@pytest_twisted.ensureDeferred
async def test_a_failure_is_repeated_later_and_less_often(cloud: SmallCloud, outbox: Outbox) -> None:
    await put(cloud, **{"alert.webhook.url": URL})
    await outbox.after(0)
    happen(cloud, "one")
    outbox.problem = DeliveryError("it is down", "start it")
    waits, row = [], None
    for _ in range(12):
        await outbox.after(0)
        [row] = await outbox.delivery().states()
        assert row.delivery is not None
        waits.append((row.delivery.next_try - outbox.time).total_seconds())
        outbox.time = row.delivery.next_try
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600, 3600]
    assert row is not None and row.delivery is not None
    assert (row.delivery.reason, row.delivery.hint, row.waiting) == ("it is down", "start it", 1)
    outbox.problem = None
    assert await outbox.after(0) == [["one"]]
    [row] = await outbox.delivery().states()
    assert row.delivery is not None
    assert (row.delivery.failures, row.delivery.reason, row.waiting) == (0, None, 0)


@pytest_twisted.ensureDeferred
async def test_what_waits_for_long_is_one_message(cloud: SmallCloud, outbox: Outbox) -> None:
    await put(cloud, **{"alert.webhook.url": URL})
    await outbox.after(0)
    happen(cloud, *(f"alert {number}" for number in range(250)))
    await outbox.after(10)
    [(_, batch)] = outbox.hooks
    assert (len(batch.alerts), batch.omitted) == (100, 150)
    assert (batch.alerts[0].description, batch.alerts[-1].description) == ("alert 249", "alert 150")
    await outbox.after(10)
    assert len(outbox.hooks) == 1


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_runs_is_not_begun_again(cloud: SmallCloud, outbox: Outbox) -> None:
    """By another daemon, or by this one after a restart in the middle of it."""
    await put(cloud, **{"alert.webhook.url": URL})
    await outbox.after(0)
    happen(cloud, "one")
    held: Deferred[None] = Deferred()
    calls: list[Batch] = []

    def hold(send: Sender, batch: Batch) -> Deferred[None]:
        calls.append(batch)
        return held

    running = Deferred.fromCoroutine(outbox.delivery(hold).deliver())
    while not calls:
        await cloud.database.read(lambda _: None)
    assert await outbox.after(60) == []
    # it was killed: what it held is sent when its claim has ended, under the same id
    assert await outbox.after(1800) == [["one"]]
    assert outbox.hooks[0][1].id == calls[0].id
    held.callback(None)
    await running


@pytest_twisted.ensureDeferred
async def test_a_claim_of_a_process_that_ended_is_released_soon_after_a_start(
    cloud: SmallCloud, outbox: Outbox
) -> None:
    await put(cloud, **{"alert.webhook.url": URL})
    await outbox.after(0)
    happen(cloud, "one")
    [row] = await outbox.delivery().states()
    assert row.delivery is not None
    until = outbox.time + CLAIM
    assert cloud.database.run_now(alert_deliveries.claim, row.delivery, outbox.time, until)
    started = outbox.delivery()
    await started.start()
    started.stop()
    assert await outbox.after(59) == []
    assert await outbox.after(1) == [["one"]]


@pytest.mark.parametrize("problem", [ValueError("port"), UnicodeError("label")])
@pytest_twisted.ensureDeferred
async def test_any_error_is_a_failure_with_a_reason(
    cloud: SmallCloud, outbox: Outbox, problem: Exception
) -> None:
    await put(cloud, **{"alert.webhook.url": URL})
    await outbox.after(0)
    happen(cloud, "one")
    outbox.problem = problem
    with capturedLogs() as logged:
        await outbox.after(10)
    assert [event["log_format"] for event in logged] == ["delivery of alerts by {way} failed"]
    [row] = (await cloud.call("listAlertDeliveries"))["alertdelivery"]
    assert (row["state"], row["failures"]) == ("failing", 1)
    assert row["reason"] == "alerts cannot be sent by webhook with the present settings"
    outbox.problem = None
    await put(cloud, **{"alert.webhook.url": f"{URL}/2"})
    assert await outbox.after(0) == [["one"]]


@pytest_twisted.ensureDeferred
async def test_stopping_begins_no_further_delivery(cloud: SmallCloud, outbox: Outbox) -> None:
    await put(cloud, **MAIL, **{"alert.webhook.url": URL})
    await outbox.after(0)
    happen(cloud, "one")
    outbox.time += timedelta(seconds=10)

    def stop(send: Sender, batch: Batch) -> Deferred[None]:
        delivery.stop()
        return maybeDeferred(send, batch)

    delivery = outbox.delivery(stop)
    await delivery.deliver()
    assert (len(outbox.mails), len(outbox.hooks)) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_one_way_out_that_fails_does_not_hold_the_other(cloud: SmallCloud, outbox: Outbox) -> None:
    await put(cloud, **MAIL, **{"alert.webhook.url": URL})
    await outbox.after(0)
    happen(cloud, "one")
    outbox.problem = DeliveryError("both are down")
    await outbox.after(10)
    outbox.problem = None
    await put(cloud, **{"alert.smtp.port": "587"})
    await outbox.after(0)  # a changed setting is tried at once
    assert (len(outbox.mails), len(outbox.hooks)) == (1, 1)
    [(server, batch)] = outbox.mails
    assert server == MailServer(
        host="mail.example.test",
        port=587,
        starts_tls=True,
        sender="cloud@example.test",
        recipients=["ann@example.test", "bob@example.test"],
    )
    assert batch.host == "host-1"


@pytest_twisted.ensureDeferred
async def test_an_incomplete_setting_sends_nothing_and_a_reset_one_ends(
    cloud: SmallCloud, outbox: Outbox
) -> None:
    for name, value in MAIL.items():
        assert await cloud.call("listAlertDeliveries") == {}
        await put(cloud, **{name: value})
    await outbox.after(0)
    happen(cloud, "one")
    await cloud.call("resetConfiguration", name="alert.smtp.host")
    await outbox.after(10)
    await put(cloud, **{"alert.smtp.host": "other.example.test"})
    await outbox.after(10)
    await outbox.after(10)
    assert outbox.mails == []  # it began anew
    [row] = (await cloud.call("listAlertDeliveries"))["alertdelivery"]
    target = "ann@example.test, bob@example.test by other.example.test:465"
    assert (row["name"], row["target"], row["state"]) == ("email", target, "idle")


@pytest_twisted.ensureDeferred
async def test_secrets_are_sealed_and_never_shown(cloud: SmallCloud, outbox: Outbox) -> None:
    answer = await cloud.call("updateConfiguration", name="alert.smtp.password", value="opensesame")
    assert answer["configuration"]["value"] == HIDDEN
    await put(cloud, **MAIL, **{"alert.smtp.useAuth": "true", "alert.smtp.username": "cloud"})
    await put(cloud, **{"alert.webhook.url": URL, "alert.webhook.secretkey": "hush-hush"})
    rows = (await cloud.call("listConfigurations", group="Alerts"))["configuration"]
    assert "opensesame" not in str(rows) and "hush-hush" not in str(rows)
    files = b"".join(path.read_bytes() for path in cloud.primary.directory.glob("systemvm.sqlite*"))
    assert b"opensesame" not in files and b"hush-hush" not in files
    await outbox.after(0)
    happen(cloud, "one")
    await outbox.after(10)
    assert (outbox.mails[0][0].username, outbox.mails[0][0].password) == ("cloud", "opensesame")
    assert outbox.hooks[0][0].secret == "hush-hush"
    # the path of a webhook can be a secret, too
    assert "secret-path" not in str(await cloud.call("listAlertDeliveries"))
    await cloud.call("resetConfiguration", name="alert.webhook.secretkey")
    [row] = (await cloud.call("listConfigurations", name="alert.webhook.secretkey"))["configuration"]
    assert row["value"] == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alert.webhook.url", "http://hooks.example.test"),
        ("alert.webhook.url", "https://user:password@hooks.example.test"),
        ("alert.webhook.url", "https://"),
        ("alert.webhook.url", "https://h.example.test:99999/x"),
        ("alert.webhook.url", "https://h.example.test:0/x"),
        ("alert.webhook.url", "https://h.example.test/ü"),
        ("alert.webhook.url", "https://h.example.test/a b"),
        ("alert.webhook.url", "https://h..example.test/"),
        ("alert.email.addresses", "ann@example.test,nobody"),
        ("alert.email.addresses", ",".join(f"u{number}@example.test" for number in range(21))),
        ("alert.email.sender", "a b@example.test"),
        ("alert.email.sender", "a@example.test\nBcc: b@example.test"),
        ("alert.smtp.host", "smtp://mail.example.test"),
        ("alert.smtp.host", "mail..example.test"),
        ("alert.smtp.host", f"{'m' * 64}.example.test"),
        ("alert.smtp.username", "jürgen"),
        ("alert.smtp.password", "paßwort"),
        ("alert.smtp.port", "0"),
        ("alert.smtp.useAuth", "maybe"),
        ("alert.smtp.password", "x" * 129),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_value_that_cannot_be_used_is_refused(cloud: SmallCloud, name: str, value: str) -> None:
    refused = await refusal(cloud, "updateConfiguration", name=name, value=value)
    assert refused.code is ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_an_alert_is_made_by_its_type_and_name(cloud: SmallCloud, outbox: Outbox) -> None:
    await put(cloud, **{"alert.webhook.url": URL})
    await outbox.after(0)
    made = {"type": "19", "name": "ALERT.SERVICE.SSVM", "description": "a trial"}
    job = await cloud.job("generateAlert", **made)
    assert job.result == {"success": True}
    [row] = (await cloud.call("listAlerts"))["alert"]
    assert (row["type"], row["name"], row["description"]) == (19, "ALERT.SERVICE.SSVM", "a trial")
    assert await outbox.after(10) == [["a trial"]]
    for wrong in ({"type": "3"}, {"name": "ALERT.COMPUTE.HOST"}):
        refused = await refusal(cloud, "generateAlert", **(made | wrong))
        assert "19 ALERT.SERVICE.SSVM" in refused.hint
    assert (await refusal(cloud, "generateAlert", cloud.user, **made)).code is ErrorCode.UNSUPPORTED
