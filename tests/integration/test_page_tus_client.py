# SPDX-License-Identifier: Apache-2.0
"""The page's client of tus without a network: what it sends, when it waits, and when it gives up.

It runs in Chromium, as the page does.
"""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import chromium, open_modules

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

SIZE = 1000

#: Sends to a server that follows a script of one entry a request; returns what happened.
RUN = """
async ([script, size, pauseAfter]) => {
  const { upload } = await import("./tus.js");
  const pause = new AbortController();
  const sent = [], waits = [], reports = [];
  const send = async ({ method, headers }) => {
    sent.push([method, headers["Upload-Offset"] ?? headers["Upload-Length"] ?? ""]);
    if (sent.length === pauseAfter) { pause.abort(); pause.signal.throwIfAborted(); }
    const step = script.length > 1 ? script.shift() : script[0];
    if (step === "lost") throw new Error("the connection is lost");
    const [status, answered, text] = step;
    return { status, header: (name) => answered?.[name] ?? null, text: text ?? "" };
  };
  const sleep = async (ms) => { waits.push(ms); };
  const file = { size, slice: (offset) => ({ offset }) };
  const target = { url: "u", headers: { "X-signature": "s" } };
  let error = null;
  try {
    await upload({ target, file, send, sleep, signal: pause.signal, report: (bytes) => reports.push(bytes) });
  } catch (failure) {
    error = [failure.constructor.name, failure.message];
  }
  return { sent, waits, reports, error };
}
"""

NEW = [200, {"Upload-Offset": "0", "Upload-Defer-Length": "1"}]
CREATED = [201, {"Location": "/upload/x"}]
COMPLETE = [204, {"Upload-Offset": str(SIZE)}]


def at(offset: int, length: int = SIZE) -> list[Any]:
    return [200, {"Upload-Offset": str(offset), "Upload-Length": str(length)}]


def run(chromium: Chromium, *script: Any, pause_after: int = 0) -> dict[str, Any]:
    def steps(page: Page) -> dict[str, Any]:
        open_modules(page)
        result: dict[str, Any] = page.evaluate(RUN, [list(script), SIZE, pause_after])
        return result

    return chromium.run(steps)


def test_a_new_upload_is_created_and_sent_in_one_body(chromium: Chromium) -> None:
    result = run(chromium, NEW, CREATED, COMPLETE)
    assert result["sent"] == [["HEAD", ""], ["POST", str(SIZE)], ["PATCH", "0"]]
    assert (result["reports"], result["waits"], result["error"]) == ([0, SIZE], [], None)


def test_a_known_upload_continues_at_its_offset(chromium: Chromium) -> None:
    assert run(chromium, at(400), COMPLETE)["sent"] == [["HEAD", ""], ["PATCH", "400"]]
    assert run(chromium, at(SIZE))["sent"] == [["HEAD", ""]]


def test_a_lost_connection_is_resumed_where_the_server_is(chromium: Chromium) -> None:
    result = run(chromium, at(0), "lost", "lost", at(300), [503, {"Retry-After": "5"}], at(300), COMPLETE)
    methods = [method for method, _ in result["sent"]]
    assert methods == ["HEAD", "PATCH", "HEAD", "HEAD", "PATCH", "HEAD", "PATCH"]
    assert result["sent"][4] == ["PATCH", "300"]
    assert result["error"] is None
    assert result["waits"] == [1000, 2000, 5000], "progress begins the delays anew; the server's is longer"


def test_it_gives_up_only_after_many_attempts_without_progress(chromium: Chromium) -> None:
    result = run(chromium, "lost")
    assert result["error"] == ["InterruptedError", "the connection is lost"]
    assert result["waits"] == [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]


def test_a_server_that_takes_nothing_is_given_up_too(chromium: Chromium) -> None:
    script = [step for _ in range(9) for step in (at(0), [204, {"Upload-Offset": "0"}])]
    result = run(chromium, *script)
    assert result["error"] == ["InterruptedError", "the server took nothing"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([at(0), [400, {}, "image is not QCOW2"]], "image is not QCOW2"),
        ([[410, {}]], "the upload has ended; its template shows why"),
        ([[400, {}], [400, {}, "request not valid anymore."]], "request not valid anymore."),
        ([NEW, [413, {}, "the maximum is 10 bytes"]], "the maximum is 10 bytes"),
        ([at(0, 999)], f"file has another size: {SIZE} bytes, the upload began with 999"),
        ([at(SIZE + 1)], f"server has an impossible offset: {SIZE + 1}"),
    ],
)
def test_a_refusal_is_final(chromium: Chromium, script: list[Any], why: str) -> None:
    result = run(chromium, *script)
    assert (result["error"], result["waits"]) == (["RefusedError", why], [])


def test_a_pause_ends_it_at_once(chromium: Chromium) -> None:
    result = run(chromium, NEW, CREATED, COMPLETE, pause_after=3)
    assert (result["error"][0], result["waits"]) == ("DOMException", [])
