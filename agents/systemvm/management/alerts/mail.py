# SPDX-License-Identifier: Apache-2.0
"""Alerts by e-mail: one message to all addresses, by SMTP with TLS; it blocks, so use a thread."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import closing, suppress

from attrs import field, frozen
from twisted.logger import Logger

from systemvm.management.alerts.batch import Batch
from systemvm.management.alerts.errors import DeliveryError
from systemvm.management.alerts.peer import Permits, connection_to, is_no_control_address, tls_context

#: RFC 8314: TLS from the first byte on.
SUBMISSIONS_PORT = 465
_log = Logger()


@frozen
class MailServer:
    host: str
    port: int
    starts_tls: bool  # at other ports; false: in clear text, and without a login
    sender: str
    recipients: list[str]
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def target(self) -> str:
        return f"{', '.join(self.recipients)} by {self.host}:{self.port}"


def send(
    server: MailServer,
    batch: Batch,
    *,
    permits: Permits = is_no_control_address,
    context: Callable[[], ssl.SSLContext] = tls_context,
) -> None:
    """Hand a batch to the mail server. It is delivered when anyone gets it: a repetition would go to all.

    Raises: DeliveryError when it was accepted for nobody.
    """
    where = f"{server.host}:{server.port}"
    with connection_to(server.host, server.port, permits) as connection:
        if server.port == SUBMISSIONS_PORT:
            connection = context().wrap_socket(connection, server_hostname=server.host)
        try:
            _converse(server, batch, connection, context)
        except smtplib.SMTPAuthenticationError:
            raise DeliveryError(
                f"mail server {where} refuses the login",
                "correct alert.smtp.username and alert.smtp.password",
            ) from None
        except smtplib.SMTPNotSupportedError:
            raise DeliveryError(
                f"mail server {where} offers no STARTTLS, or no login by it",
                "use port 465, or set alert.smtp.useStartTLS to false for a server without TLS",
            ) from None
        except smtplib.SMTPRecipientsRefused as refused:
            raise DeliveryError(
                f"mail server {where} refuses {', '.join(sorted(refused.recipients))}",
                "correct alert.email.addresses",
            ) from None
        except smtplib.SMTPResponseException as refused:
            raise DeliveryError(
                f"mail server {where} refuses the message: status {refused.smtp_code}",
                "look into the log of the mail server",
            ) from None
        except smtplib.SMTPException:
            raise DeliveryError(f"mail server {where} does not answer as one", "check its port") from None


def _converse(
    server: MailServer, batch: Batch, connection: socket.socket, context: Callable[[], ssl.SSLContext]
) -> None:
    with closing(_Connected(connection, server.host)) as client:
        if server.port != SUBMISSIONS_PORT and server.starts_tls:
            client.starttls(context=context())
        if server.username:
            if not isinstance(client.sock, ssl.SSLSocket):
                raise smtplib.SMTPNotSupportedError
            client.login(server.username, server.password)
        refused = client.send_message(batch.mail(server.sender, server.recipients))
        if refused:
            _log.warn(
                "mail server {host} refuses {recipients}: correct alert.email.addresses",
                host=server.host,
                recipients=", ".join(sorted(refused)),
            )
        with suppress(smtplib.SMTPException, OSError):  # it has the message
            client.quit()


class _Connected(smtplib.SMTP):
    """A client on a connection to an address that was checked before."""

    def __init__(self, connection: socket.socket, host: str) -> None:
        self._connection = connection
        super().__init__(timeout=connection.gettimeout() or 0.001)
        code, _ = self.connect(host)
        if code != 220:
            raise smtplib.SMTPConnectError(code, "")
        self._host = host  # that its certificate must be for

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._connection
