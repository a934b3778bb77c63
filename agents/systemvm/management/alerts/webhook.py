# SPDX-License-Identifier: Apache-2.0
"""Alerts by a webhook: a signed POST to a URL, which must answer with 2xx; it blocks, so use a thread."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from attrs import field, frozen

from systemvm.management.alerts.batch import EVENT_HEADER, ID_HEADER, SIGNATURE_HEADER, Batch, signature
from systemvm.management.alerts.errors import DeliveryError
from systemvm.management.alerts.peer import Permits, connection_to, is_another_machine, tls_context


@frozen
class Webhook:
    url: str = field(repr=False)  # its path can be a secret
    secret: str = field(default="", repr=False)

    @property
    def target(self) -> str:
        return urlsplit(self.url).netloc


def send(
    webhook: Webhook,
    batch: Batch,
    *,
    permits: Permits = is_another_machine,
    context: Callable[[], ssl.SSLContext] = tls_context,
) -> None:
    """Post a batch. A redirect is a refusal: nobody else gets the alerts.

    Raises: DeliveryError when it was not accepted.
    """
    parts, body = urlsplit(webhook.url), batch.body()
    host, port = parts.hostname or "", parts.port or 443
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "systemvm",
        "Connection": "close",
        ID_HEADER: batch.id,
        EVENT_HEADER: "ALERT",
    }
    if webhook.secret:
        headers[SIGNATURE_HEADER] = signature(body, webhook.secret)
    with connection_to(host, port, permits) as connection:
        client = http.client.HTTPSConnection(host, port)
        client.sock = context().wrap_socket(connection, server_hostname=host)
        try:
            path = parts.path or "/"
            client.request("POST", f"{path}?{parts.query}" if parts.query else path, body, headers)
            status = client.getresponse().status
        except http.client.HTTPException:
            raise DeliveryError(f"{host}:{port} does not answer by HTTP", "check alert.webhook.url") from None
        finally:
            client.close()
    if not 200 <= status < 300:
        raise DeliveryError(
            f"webhook at {host}:{port} answered with status {status}",
            "check alert.webhook.url, and the log of the server",
        )
