# SPDX-License-Identifier: Apache-2.0
"""Delivers alerts by the ways out that are set, each at its own pace, and again until it succeeds.

Nothing piles up: what waits are the alerts after the last one that was delivered. However long a server is
away, it gets one message, with the newest ones. A restart in the middle of a delivery repeats it soon.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.alerts import mail, webhook
from systemvm.management.alerts.batch import MOST, Batch
from systemvm.management.alerts.errors import DeliveryError
from systemvm.management.alerts.mail import MailServer
from systemvm.management.alerts.webhook import Webhook
from systemvm.management.configurations import alerts as settings
from systemvm.management.pki.seal import Seal
from systemvm.management.state import alert_deliveries
from systemvm.management.state.alert_deliveries import Delivery
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.service.periodic import Periodic

INTERVAL_S = 10.0
FIRST_WAIT_S, LAST_WAIT_S = 30.0, 3600.0
#: Longer than a delivery can take on a machine that is very slow.
CLAIM = timedelta(minutes=30)
#: A delivery that a process has left behind is repeated so long after the next one's start.
AFTER_RESTART = timedelta(minutes=1)
EMAIL, WEBHOOK = "email", "webhook"


class Sender(Protocol):
    """Delivers a batch; it blocks.

    Raises: DeliveryError when it was not accepted.
    """

    def __call__(self, batch: Batch, /) -> None: ...


@frozen
class Way:
    """A way out that is set."""

    name: str
    target: str
    send: Sender


@frozen
class DeliveryState:
    """A way out as operators see it."""

    way: Way
    delivery: Delivery | None
    waiting: int


class AlertDelivery:
    """The loop over the ways out, and what operators see of them."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        seal: Seal,
        host_name: str,
        *,
        in_thread: Callable[[Sender, Batch], Deferred[None]] = deferToThread,
        send_mail: Callable[[MailServer, Batch], None] = mail.send,
        send_webhook: Callable[[Webhook, Batch], None] = webhook.send,
        moment: Callable[[], datetime] = now,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._database = database
        self._seal = seal
        self._host_name = host_name
        self._in_thread = in_thread
        self._send_mail = send_mail
        self._send_webhook = send_webhook
        self._moment = moment
        self._uniform = uniform
        self._stopped = False
        self._loop = Periodic(clock, self.deliver, INTERVAL_S, what="deliver alerts")

    async def start(self) -> None:
        await self._database.run(alert_deliveries.try_by, self._moment() + AFTER_RESTART)
        self._loop.start(now=True)

    def stop(self) -> None:
        self._stopped = True
        self._loop.stop()

    async def changed(self) -> None:
        """Use changed settings at once."""
        await self._database.run(alert_deliveries.retry_now, self._moment())
        self._loop.run_soon()

    async def states(self) -> list[DeliveryState]:
        ways = self._ways(await self._database.read(settings.read))
        return [await self._database.read(_state, way) for way in ways]

    async def deliver(self) -> None:
        """Deliver what waits and is due. A way out that is not set any more forgets how far it was."""
        ways = self._ways(await self._database.read(settings.read))
        for name in {EMAIL, WEBHOOK} - {way.name for way in ways}:
            if await self._database.read(alert_deliveries.of_way, name) is not None:
                await self._database.run(alert_deliveries.end, name)
        for way in ways:
            if self._stopped:
                return  # each way can take almost as long as systemd waits
            await self._deliver_by(way)

    async def _deliver_by(self, way: Way) -> None:
        moment = self._moment()
        delivery = await self._database.read(alert_deliveries.of_way, way.name)
        if delivery is None:
            await self._database.run(alert_deliveries.begin, way.name, moment)
            return
        if delivery.next_try > moment:
            return
        found, count = await self._database.read(alert_deliveries.waiting, delivery, MOST)
        if not found:
            return
        if not await self._database.run(alert_deliveries.claim, delivery, moment, moment + CLAIM):
            return
        try:
            await self._in_thread(way.send, Batch(self._host_name, found, count - len(found)))
        except DeliveryError as error:
            self._log.warn("cannot deliver alerts by {way}: {error}", way=way.name, error=error)
            await self._fail(delivery, error)
            return
        except Exception:
            self._log.failure("delivery of alerts by {way} failed", way=way.name)
            await self._fail(delivery, _unexpected(way))
            return
        await self._database.run(alert_deliveries.succeed, delivery, found[0].id, self._moment())

    async def _fail(self, delivery: Delivery, error: DeliveryError) -> None:
        wait_s = min(LAST_WAIT_S, FIRST_WAIT_S * 2 ** min(delivery.failures, 16))
        later = self._moment() + timedelta(seconds=self._uniform(wait_s / 2, wait_s))
        await self._database.run(alert_deliveries.fail, delivery, later, error.message, error.hint)

    def _ways(self, texts: dict[str, str]) -> list[Way]:
        ways = []
        recipients = [part for part in texts[settings.ADDRESSES.name].split(",") if part]
        sender, host = texts[settings.SENDER.name], texts[settings.SMTP_HOST.name]
        if recipients and sender and host:
            logs_in = texts[settings.SMTP_AUTH.name] == "true"
            server = MailServer(
                host=host,
                port=int(texts[settings.SMTP_PORT.name]),
                starts_tls=texts[settings.SMTP_STARTTLS.name] == "true",
                sender=sender,
                recipients=recipients,
                username=texts[settings.SMTP_USERNAME.name] if logs_in else "",
                password=self._open(texts[settings.SMTP_PASSWORD.name]) if logs_in else "",
            )
            ways.append(Way(EMAIL, server.target, lambda batch: self._send_mail(server, batch)))
        if texts[settings.WEBHOOK_URL.name]:
            hook = Webhook(texts[settings.WEBHOOK_URL.name], self._open(texts[settings.WEBHOOK_SECRET.name]))
            ways.append(Way(WEBHOOK, hook.target, lambda batch: self._send_webhook(hook, batch)))
        return ways

    def _open(self, sealed: str) -> str:
        return self._seal.open(base64.b64decode(sealed)) if sealed else ""


def _unexpected(way: Way) -> DeliveryError:
    return DeliveryError(
        f"alerts cannot be sent by {way.name} with the present settings",
        "look into the journal of systemvm-managementd, and correct the settings",
    )


def _state(connection: Connection, way: Way) -> DeliveryState:
    delivery = alert_deliveries.of_way(connection, way.name)
    count = 0 if delivery is None else alert_deliveries.waiting(connection, delivery, 1)[1]
    return DeliveryState(way, delivery, count)
