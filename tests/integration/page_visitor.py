# SPDX-License-Identifier: Apache-2.0
"""The administrator of a real daemon on its page; a test answers the calls that need an SSVM."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import yaml
from playwright.sync_api import Page, Route, expect

from integration.daemon_lab import Host

#: Returns the answer of a call, without its wrapper; None has the daemon answer.
Answer = Callable[[dict[str, str]], dict[str, Any] | None]

#: Firefox's WebDriver BiDi does not show the bodies of requests: there a copy is sent in a header.
_BODY_HEADER = "x-body"
#: How often the page is to ask again.
CHANGE_MS = 300

_COPY_BODIES = """
const send = window.fetch;
window.fetch = (address, options = {}) => {
  const headers = new Headers(options.headers);
  if (options.body) headers.set("x-body", String(options.body));
  return send(address, { ...options, headers });
};
"""


def advertise(host: Host, origin: str) -> None:
    """Set the origin of SSVMs before the daemon starts: the policy of the page permits it."""
    [zone] = host.layout.zones.glob("*.yaml")
    text = yaml.safe_load(zone.read_text())
    text["secondary_storage"] = {"origin": origin}
    zone.write_text(yaml.safe_dump(text))


#: A stream that says again and again that anything has changed: a test changes its answers, and no table.
#: It stays open: the page would ask again after a lost one whatever it says.
_ANYTHING = f"""
window.EventSource = class extends EventTarget {{
  static CLOSED = 2;
  readyState = 1;
  #timer = setInterval(() => {{
    this.dispatchEvent(new MessageEvent("message", {{ data: '["*"]' }}));
  }}, {CHANGE_MS});
  close() {{
    clearInterval(this.#timer);
  }}
}};
"""


class Visitor:
    """`answer` can be replaced while the page is open; `calls` are those that it has answered."""

    def __init__(self, host: Host, answer: Answer | None) -> None:
        """Without `answer` the daemon answers all calls, and says what has changed."""
        self._host = host
        self._login = host.login
        self.answer: Answer | None = answer
        self.calls: list[dict[str, str]] = []

    def open(self, page: Page) -> None:
        browser = page.context.browser
        if browser is not None and browser.browser_type.name == "firefox":
            page.add_init_script(_COPY_BODIES)
        if self.answer is not None:
            page.route("**/client/api", self._respond)
            page.add_init_script(_ANYTHING)
        page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
        page.goto(self._host.page)
        page.fill("[name=username]", self._login.username)
        page.fill("[name=password]", self._login.password)
        page.click("#login-form button")
        expect(page.locator("#cloud")).to_be_visible()
        expect(page.locator("#live")).to_have_text("live")

    def _respond(self, route: Route) -> None:
        body = route.request.post_data or route.request.headers.get(_BODY_HEADER, "")
        call = dict(parse_qsl(body))
        answer = None if self.answer is None else self.answer(call)
        if answer is None:
            route.continue_()
            return
        self.calls.append(call)
        route.fulfill(body=json.dumps({"response": answer}), content_type="application/json")

    @property
    def commands(self) -> list[str]:
        return [call["command"] for call in self.calls]
