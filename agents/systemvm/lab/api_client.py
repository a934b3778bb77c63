# SPDX-License-Identifier: Apache-2.0
"""A client of the cloud's query API; requests are signed with the first login's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from typing import Any
from urllib.parse import quote, urlencode

from systemvm.lab.errors import LabError
from systemvm.lab.reporting import NullStep
from systemvm.lab.waiting import HANG_S, WaitState, wait_for

_REQUEST_S = 30.0
_POLL_S = 0.5


class ApiRefusedError(LabError):
    """The API returned an error."""

    def __init__(self, command: str, code: int, text: str) -> None:
        super().__init__(f"{command}: {text} ({code})")
        self.code = code
        self.text = text


class ApiClient:
    """CloudStack's commands over HTTP."""

    def __init__(self, port: int, api_key: str, secret_key: str) -> None:
        self._port = port
        self._api_key = api_key
        self._secret_key = secret_key

    def call(self, command: str, /, **parameters: object) -> dict[str, Any]:
        """Call a command and return the content of its answer.

        Raises: ApiRefusedError when the API returns an error, OSError when it cannot be reached, LabError
        when the answer cannot be parsed.
        """
        query = {
            **{name: _text(value) for name, value in parameters.items()},
            "command": command,
            "response": "json",
            "apiKey": self._api_key,
        }
        query["signature"] = self._sign(query)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_REQUEST_S)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/client/api", urlencode(query), headers)
            response = connection.getresponse()
            body = response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{command}: {error!r}") from error
        finally:
            connection.close()
        try:
            [content] = json.loads(body).values()
        except (ValueError, AttributeError) as error:
            raise LabError(f"{command}: invalid answer: {body[:200]!r}") from error
        if "errorcode" in content:
            raise ApiRefusedError(command, int(content["errorcode"]), str(content["errortext"]))
        result: dict[str, Any] = content
        return result

    def items(self, command: str, kind: str, /, **parameters: object) -> list[dict[str, Any]]:
        """Return the objects of a list command."""
        found: list[dict[str, Any]] = self.call(command, **parameters).get(kind, [])
        return found

    def run(
        self,
        command: str,
        /,
        **parameters: object,
    ) -> dict[str, Any]:
        """Call an asynchronous command, wait for its job and return the result.

        Raises: ApiRefusedError when the job fails, StalledError when it does not end.
        """
        job = self.call(command, **parameters)["jobid"]

        def look() -> WaitState[dict[str, Any]]:
            return WaitState(f"the job of {command}", result=self.job_result(command, job))

        # the query API has no events, so the job is polled
        return wait_for(look, NullStep(), lambda: "", hang_s=HANG_S, every_s=_POLL_S)

    def job_result(self, command: str, job: str) -> dict[str, Any] | None:
        """Return the result of a job, None while it runs.

        Raises: ApiRefusedError when it failed.
        """
        answer = self.call("queryAsyncJobResult", jobid=job)
        result: dict[str, Any] = answer.get("jobresult") or {}
        if answer["jobstatus"] == 2:
            raise ApiRefusedError(command, int(result.get("errorcode", 530)), str(result.get("errortext")))
        return result if answer["jobstatus"] == 1 else None

    def _sign(self, query: dict[str, str]) -> str:
        text = "&".join(f"{name}={quote(value, safe='*')}" for name, value in sorted(query.items())).lower()
        digest = hmac.new(self._secret_key.encode(), text.encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
