# SPDX-License-Identifier: Apache-2.0
"""The page's modules in a browser without a daemon, for tests of each by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import Page, Route, expect

from integration.cpvm_lab.chromium import Chromium

ORIGIN = "https://cloud.example.test"
_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
#: A stream of changes that stays open: `changed(table, …)` sends some.
_CHANGES = """
const streams = new Set();
window.changed = (...tables) => {
  const data = JSON.stringify(tables);
  for (const stream of streams) stream.dispatchEvent(new MessageEvent("message", { data }));
};
window.EventSource = class extends EventTarget {
  static CLOSED = 2;
  readyState = 1;
  constructor() {
    super();
    streams.add(this);
  }
  close() {
    streams.delete(this);
  }
};
const pending = new Set();
const track = (promise) => {
  pending.add(promise);
  promise.catch(() => {}).finally(() => pending.delete(promise));
  return promise;
};
const [send, read] = [window.fetch, Response.prototype.json];
window.fetch = (...all) => track(send(...all));
Response.prototype.json = function () { return track(read.call(this)); };
// Return when the page has dealt with all answers that are under way.
window.settled = async () => {
  do {
    await Promise.allSettled([...pending]);
    await new Promise((done) => setTimeout(done));
  } while (pending.size);
};
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


def _serve(route: Route, body: str) -> None:
    name = route.request.url.removeprefix(f"{ORIGIN}/")
    if not name:
        route.fulfill(body=f"<!doctype html>{body}", content_type="text/html")
        return
    static = files("systemvm.management.page").joinpath("static", name)
    route.fulfill(body=static.read_bytes(), content_type=_TYPES[name.rpartition(".")[2]])


def open_modules(page: Page, body: str = "<p>test") -> None:
    """Open an empty page, from which `import("./NAME.js")` works."""
    page.route(f"{ORIGIN}/**", lambda route: _serve(route, body))
    page.goto(f"{ORIGIN}/")


def shown_anywhere(page: Page) -> str:
    """Return all text of a page, also what is typed in or hidden."""
    fields = page.locator("input, textarea").evaluate_all("fields => fields.map(({ value }) => value)")
    return "\n".join([page.locator("body").text_content() or "", *fields])


class RefusedError(Exception):
    """An answer that is an error of the API; one without a code is a lost connection."""

    def __init__(self, code: int = 0, **headers: str) -> None:
        super().__init__(code)
        self.code, self.headers = code, headers


#: What a command answers.
Answer = dict[str, Any] | Callable[[dict[str, str]], dict[str, Any]] | RefusedError


class StubbedPage:
    """The whole page without a daemon, which a test answers; the user may call the commands with an answer.

    `answers` has what each command answers, or a function of its call. `calls` are those that were made.
    """

    def __init__(self, page: Page, **answers: Answer) -> None:
        self.page = page
        self._held: dict[str, list[Route]] = {}
        self.user: dict[str, str] = {}  # what login answers of the user, other than of one without rights
        self.calls: list[dict[str, str]] = []
        self.answers: dict[str, Answer] = {"listApis": self._apis}
        self.answers["listZones"] = {"zone": [{"id": "z", "name": "zone1"}]}
        self.answers |= answers
        page.add_init_script(_CHANGES)
        open_modules(page, files("systemvm.management.page").joinpath("static", "index.html").read_text())
        page.route("**/client/api", self._respond)
        page.reload()

    def log_in(self, name: str = "una") -> None:
        self.page.fill("#login-form [name=username]", name)
        self.page.fill("#login-form [name=password]", "a password")
        self.page.click("#login-form button")
        expect(self.page.locator("#live")).to_have_text("live")
        expect(self.page.locator("#cloud")).to_be_visible()

    def changed(self, *tables: str) -> None:
        self.page.evaluate("tables => changed(...tables)", list(tables))

    def hold(self, command: str) -> None:
        """Let calls of a command wait until `release`."""
        self._held[command] = []

    def release(self, command: str) -> None:
        """Answer the calls that are held, of which there is one at least: wait for it, as it can be late."""
        while not self._held[command]:
            self.page.wait_for_timeout(20)  # Playwright calls `_respond` meanwhile
        for route in self._held.pop(command):
            self._respond(route)

    def forget_messages(self) -> None:
        """Take away the messages that are shown, which leave by themselves, but after a time."""
        self.page.evaluate("document.querySelector('#toasts').replaceChildren()")

    def count(self, command: str) -> int:
        return sum(call["command"] == command for call in self.calls)

    def _apis(self, _call: dict[str, str]) -> dict[str, Any]:
        return {"api": [{"name": name} for name in self.answers]}

    def _respond(self, route: Route) -> None:
        call = dict(parse_qsl(route.request.post_data or ""))
        if (held := self._held.get(call["command"])) is not None:
            held.append(route)
            return
        self.calls.append(call)
        try:
            body = self._answer(call)
        except RefusedError as refusal:
            if not refusal.code:
                route.abort()
                return
            text = {"response": {"errorcode": refusal.code, "errortext": "refused"}}
            route.fulfill(status=refusal.code, json=text, headers=refusal.headers)
            return
        route.fulfill(body=json.dumps({"response": body}), content_type="application/json")

    def _answer(self, call: dict[str, str]) -> dict[str, Any]:
        command, name = call["command"], call.get("username", "")
        if command == "login":
            of_user = {
                "userid": f"id of {name}",
                "username": name,
                "account": name,
                "domainid": "d",
                "type": "0",
            }
            return of_user | {"sessionkey": "k", "is2faverified": "true"} | self.user
        answer = self.answers.get(command, {})
        if isinstance(answer, RefusedError):
            raise answer
        return answer(call) if callable(answer) else answer
