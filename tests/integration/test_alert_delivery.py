# SPDX-License-Identifier: Apache-2.0
"""Alerts reach a mail server by STARTTLS and a webhook by HTTPS, and nobody with another certificate."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs

from integration.alert_peers import (
    PASSWORD,
    USERNAME,
    Authority,
    Hooks,
    Received,
    https_server,
    listening,
    mail_server,
)
from systemvm.management.alerts import mail, peer, webhook
from systemvm.management.alerts.batch import Batch, signature
from systemvm.management.alerts.errors import DeliveryError
from systemvm.management.alerts.mail import MailServer
from systemvm.management.alerts.webhook import Webhook
from systemvm.management.state.alerts import Alert, AlertType

BATCH = Batch(
    "host-1",
    [
        Alert(2, "id-2", AlertType.HOST, "host-2 does not answer. Grüße", datetime(2026, 11, 29, tzinfo=UTC)),
        Alert(1, "id-1", AlertType.SSVM, ".\nQUIT", datetime(2026, 11, 28, tzinfo=UTC)),
    ],
)


def server_at(port: int, *, starts_tls: bool = True, logs_in: bool = False) -> MailServer:
    login = {"username": USERNAME.decode(), "password": PASSWORD.decode()} if logs_in else {}
    recipients = ["ann@example.test", "bob@example.test"]
    return MailServer("localhost", port, starts_tls, "cloud@example.test", recipients, **login)


async def mailed(server: MailServer, authority: Authority) -> None:
    await deferToThread(partial(mail.send, server, BATCH, context=authority.context))


async def posted(url: str, authority: Authority, secret: str = "hush") -> None:
    send = partial(webhook.send, permits=lambda address: True, context=authority.context)
    await deferToThread(send, Webhook(url, secret), BATCH)


@pytest.mark.parametrize("logs_in", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_mail_server_gets_one_message_by_starttls(logs_in: bool) -> None:
    received, authority = Received(), Authority()
    with listening(mail_server(received, authority.options(), logs_in=logs_in)) as port:
        await mailed(server_at(port, logs_in=logs_in), authority)
    [(recipients, text)] = received.mails
    assert recipients == ["ann@example.test", "bob@example.test"]
    assert "Message-ID: <id-2@systemvm.invalid>" in text
    assert "host-2 does not answer" in text
    assert received.secure == [True]


@pytest_twisted.ensureDeferred
async def test_without_starttls_nothing_is_sent_unless_it_is_permitted() -> None:
    received, authority = Received(), Authority()
    with listening(mail_server(received, None)) as port:
        with pytest.raises(DeliveryError, match="offers no STARTTLS"):
            await mailed(server_at(port), authority)
        with pytest.raises(DeliveryError):  # a password goes by TLS only
            await mailed(server_at(port, starts_tls=False, logs_in=True), authority)
        assert received.mails == []
        await mailed(server_at(port, starts_tls=False), authority)
    assert received.secure == [False]


@pytest_twisted.ensureDeferred
async def test_a_refusal_of_a_mail_server_is_a_reason() -> None:
    received, authority = Received(refused="bob@example.test"), Authority()
    with listening(mail_server(received, authority.options())) as port:
        with pytest.raises(DeliveryError, match=r"refuses bob@example\.test"):
            await mailed(evolve(server_at(port), recipients=["bob@example.test"]), authority)
    with listening(mail_server(received, authority.options(), logs_in=True)) as port:
        wrong = evolve(server_at(port, logs_in=True), password="guess")
        with pytest.raises(DeliveryError, match="refuses the login"):
            await mailed(wrong, authority)


@pytest_twisted.ensureDeferred
async def test_a_message_that_anyone_got_is_not_repeated() -> None:
    received, authority = Received(refused="bob@example.test", answers_quit=False), Authority()
    with listening(mail_server(received, authority.options())) as port:
        with capturedLogs() as logged:
            await mailed(server_at(port), authority)
    assert [recipients for recipients, _ in received.mails] == [["ann@example.test"]]
    assert [event["recipients"] for event in logged if "recipients" in event] == ["bob@example.test"]


@pytest_twisted.ensureDeferred
async def test_a_webhook_gets_a_signed_post() -> None:
    hooks, authority = Hooks(), Authority()
    with listening(https_server(hooks), authority.options()) as port:
        await posted(f"https://localhost:{port}/hook?token=1", authority)
    [(uri, body, headers)] = hooks.posts
    assert uri == "/hook?token=1"
    assert headers["x-cs-signature"] == signature(body, "hush")
    assert (headers["x-cs-event-id"], headers["content-type"]) == ("id-2", "application/json")
    assert [alert["id"] for alert in json.loads(body)["alerts"]] == ["id-2", "id-1"]


@pytest.mark.parametrize("status", [302, 400, 500])
@pytest_twisted.ensureDeferred
async def test_any_other_status_is_a_failure(status: int) -> None:
    hooks, authority = Hooks(status=status), Authority()
    with listening(https_server(hooks), authority.options()) as port:
        with pytest.raises(DeliveryError, match=f"status {status}"):
            await posted(f"https://localhost:{port}/", authority)
    assert len(hooks.posts) == 1


@pytest_twisted.ensureDeferred
async def test_nobody_with_another_certificate_gets_alerts() -> None:
    hooks, received, authority, other = Hooks(), Received(), Authority(), Authority()
    with listening(https_server(hooks), other.options()) as port:
        with pytest.raises(DeliveryError, match="certificate"):
            await posted(f"https://localhost:{port}/", authority)
    with listening(mail_server(received, other.options())) as port:
        with pytest.raises(DeliveryError, match="certificate"):
            await mailed(server_at(port), authority)
    assert (hooks.posts, received.mails) == ([], [])


@pytest_twisted.ensureDeferred
async def test_this_host_itself_is_no_webhook() -> None:
    hooks, authority = Hooks(), Authority()
    with listening(https_server(hooks), authority.options()) as port:
        url = f"https://localhost:{port}/"
        with pytest.raises(DeliveryError, match="not permitted"):
            await deferToThread(partial(webhook.send, Webhook(url), BATCH, context=authority.context))
    assert hooks.posts == []


class Garbage(Protocol):
    """Answers each connection with what is no protocol, and keeps it."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"\x00garbage\r\n")


@pytest.mark.parametrize("send", [mailed, posted])
@pytest_twisted.ensureDeferred
async def test_a_server_that_is_none_or_silent_holds_no_thread(
    monkeypatch: pytest.MonkeyPatch, send: Callable[..., None]
) -> None:
    monkeypatch.setattr(peer, "TOTAL_S", 0.5)
    authority = Authority()
    for kind in (Garbage, Protocol):
        with listening(Factory.forProtocol(kind)) as port:
            with pytest.raises(DeliveryError):
                if send is mailed:
                    await mailed(server_at(port), authority)
                else:
                    await posted(f"https://localhost:{port}/", authority)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else gets the port, and nothing listens on it
        with pytest.raises(DeliveryError, match="cannot be used"):
            await mailed(server_at(taken.getsockname()[1]), authority)
