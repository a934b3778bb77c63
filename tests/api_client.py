# SPDX-License-Identifier: Apache-2.0
"""A client of the API over HTTP in memory, which keeps its cookie and its session key."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from twisted.web.resource import Resource

from in_memory_http import HttpAnswer, request
from small_cloud import SmallCloud
from small_cloud.rows import ADMIN_PASSWORD
from systemvm.management.api.site import ManagementSite


class Browser:
    def __init__(self, cloud: SmallCloud) -> None:
        root = Resource()
        root.putChild(b"client", cloud.client())
        self.site = ManagementSite(root)
        self.headers: dict[str, str] = {}
        self.session_key = ""
        self.address = "192.0.2.7"

    async def post(self, **parameters: str) -> HttpAnswer:
        form = {"response": "json", **parameters}
        return await request(self.site, "POST", "/client/api", form, self.headers, self.address)

    async def get(self, **parameters: str) -> HttpAnswer:
        target = f"/client/api?{urlencode({'response': 'json', **parameters})}"
        return await request(self.site, "GET", target, None, self.headers, self.address)

    async def login(
        self, username: str = "admin", password: str = ADMIN_PASSWORD, domain: str = "/"
    ) -> HttpAnswer:
        answer = await self.post(command="login", username=username, password=password, domain=domain)
        if answer.status == 200:
            self.session_key = answer.json["loginresponse"]["sessionkey"]
            self.headers["Cookie"] = str(answer.headers["Set-Cookie"]).partition(";")[0]
        return answer

    async def call(self, command: str, **parameters: str) -> HttpAnswer:
        return await self.post(command=command, sessionkey=self.session_key, **parameters)


def error(answer: HttpAnswer) -> dict[str, Any]:
    [body] = answer.json.values()
    assert body["errorcode"] == answer.status
    return dict(body)
