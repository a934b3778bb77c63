# SPDX-License-Identifier: Apache-2.0
"""Request signatures of the lab's API client."""

from __future__ import annotations

from datetime import UTC, datetime

from systemvm.lab.api_client import ApiClient
from systemvm.management.api import signature


def test_the_signature_is_accepted_by_the_daemon() -> None:
    query = {
        "command": "registerTemplate",
        "url": "https://images.example.test/tiny image~1.qcow2?a=b&c=*",
        "checksum": "{SHA-256}abc",
        "apiKey": "KEY",
        "response": "json",
    }
    signed = ApiClient(0, "KEY", "secret")._sign(query)
    signature.verify({**query, "signature": signed}, "secret", datetime.now(UTC))
