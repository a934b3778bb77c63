# SPDX-License-Identifier: Apache-2.0
"""How CloudMonkey and Terraform's provider make a request, written after their public sources.

CloudMonkey is `cmd/network.go` of apache/cloudstack-cloudmonkey. The provider calls apache/cloudstack-go:
`newRawRequest`, `getRawValue` and `GetAsyncJobResult` of its `cloudstack.go`. Both are programs in Go; what
they send and read is replayed here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, quote_plus

import requests
from attrs import frozen

from small_cloud.rows import API_KEY, SECRET_KEY

TIMEOUT_S = 120
POLL_S = 0.05


def _signature(encoded: str) -> str:
    digest = hmac.new(SECRET_KEY.encode(), encoded.lower().encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def _encoded(parameters: dict[str, str]) -> str:
    """Write names as they are and values percent-encoded, sorted by name."""
    return "&".join(f"{name}={quote(parameters[name], safe='*')}" for name in sorted(parameters))


class ClientError(Exception):
    """What the client shows its user."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@frozen
class CloudMonkey:
    """`cmk` with a key: every call is a GET, signed without a version."""

    url: str

    def call(self, command: str, **parameters: str) -> dict[str, Any]:
        given = {"command": command, "response": "json", "apiKey": API_KEY} | parameters
        encoded = _encoded(given)
        answer = requests.get(
            f"{self.url}?{encoded}&signature={quote_plus(_signature(encoded))}", timeout=TIMEOUT_S
        )
        [body] = [value for name, value in answer.json().items() if name.endswith("response")]
        if "errorcode" in body:
            raise ClientError(body["errorcode"], body["errortext"])
        return dict(body)

    def wait(self, command: str, **parameters: str) -> dict[str, Any]:
        job = self.call(command, **parameters)["jobid"]
        while True:
            result = self.call("queryAsyncJobResult", jobid=job)
            if result["jobstatus"] == 1:
                return dict(result["jobresult"])
            if result["jobstatus"] == 2:
                raise ClientError(result["jobresultcode"], str(result["jobresult"]))
            time.sleep(POLL_S)  # it polls at an interval


@frozen
class Terraform:
    """The provider's library: signature version 3, and POST for what changes something."""

    url: str

    def get(self, command: str, **parameters: str) -> Any:
        return self._raw(command, parameters, post=False)

    def post(self, command: str, **parameters: str) -> Any:
        return self._raw(command, parameters, post=True)

    def wait(self, command: str, *, post: bool = True, **parameters: str) -> Any:
        job = self._raw(command, parameters, post=post)["jobid"]
        while True:
            result = self.get("queryAsyncJobResult", jobid=job)
            if result["jobstatus"] == 1:
                return result["jobresult"]
            if result["jobstatus"] == 2:
                raise ClientError(result["jobresultcode"], str(result["jobresult"]))
            time.sleep(POLL_S)  # it polls at an interval

    def _raw(self, command: str, parameters: dict[str, str], *, post: bool) -> Any:
        given = {
            "apiKey": API_KEY,
            "command": command,
            "response": "json",
            "signatureversion": "3",
            "expires": f"{datetime.now(UTC) + timedelta(minutes=15):%Y-%m-%dT%H:%M:%SZ}",
        } | parameters
        encoded = _encoded(given)
        signature = _signature(encoded)
        if post:
            answer = requests.post(self.url, data=given | {"signature": signature}, timeout=TIMEOUT_S)
        else:
            query = f"{encoded}&signature={quote_plus(signature)}"
            answer = requests.get(f"{self.url}?{query}", timeout=TIMEOUT_S)
        [body] = answer.json().values()  # it takes the only value, whatever its name
        if answer.status_code != 200:
            raise ClientError(body["errorcode"], body["errortext"])
        return body
