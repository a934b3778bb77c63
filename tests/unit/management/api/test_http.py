# SPDX-License-Identifier: Apache-2.0
"""`/client/api` over HTTP: signatures, errors and formats."""

from __future__ import annotations

from typing import Any, cast

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, globalLogPublisher

from api_client import Browser, error
from in_memory_http import request
from small_cloud import SmallCloud
from small_cloud.rows import ADMIN_PASSWORD, API_KEY, SECRET_KEY, USER_PASSWORD
from systemvm.management.api.signature import sign
from systemvm.management.api.site import MAX_BODY_BYTES

UNAUTHORIZED = "unable to verify user credentials and/or request signature"


def signed(**parameters: str) -> dict[str, str]:
    full = {"response": "json", "apiKey": API_KEY, **parameters}
    return full | {"signature": sign(full, SECRET_KEY)}


@pytest_twisted.ensureDeferred
async def test_a_signed_call_works_by_get_and_by_post(browser: Browser) -> None:
    assert (await browser.get(**signed(command="listZones"))).status == 200
    assert (await browser.post(**signed(command="listZones"))).status == 200


@pytest_twisted.ensureDeferred
async def test_wrong_signature_and_unknown_key_have_the_same_error(browser: Browser) -> None:
    wrong = await browser.get(**(signed(command="listZones") | {"signature": "x"}))
    unknown = await browser.get(**(signed(command="listZones") | {"apiKey": "x"}))
    assert error(wrong)["errortext"] == error(unknown)["errortext"] == UNAUTHORIZED


@pytest_twisted.ensureDeferred
async def test_signed_call_needs_no_origin(browser: Browser) -> None:
    browser.headers = {"Origin": "https://tool.test"}
    assert (await browser.post(**signed(command="listZones"))).status == 200


@pytest_twisted.ensureDeferred
async def test_unknown_command_is_432_with_a_suggestion(browser: Browser) -> None:
    await browser.login()
    answer = await browser.call("listzones")
    assert answer.status == 432
    assert list(answer.json) == ["errorresponse"]
    assert error(answer)["hint"] == "write listZones: command names are case-sensitive"


@pytest_twisted.ensureDeferred
async def test_unauthenticated_caller_cannot_probe_for_commands(browser: Browser) -> None:
    assert (await browser.post(command="noSuchThing")).status == 401


@pytest_twisted.ensureDeferred
async def test_a_users_call_of_an_administrators_command_is_432(browser: Browser) -> None:
    await browser.login("ulla", USER_PASSWORD)
    assert (await browser.call("listSystemVms")).status == 432


@pytest_twisted.ensureDeferred
async def test_errors_of_a_command_are_under_its_name(browser: Browser) -> None:
    await browser.login()
    answer = await browser.call("listTemplates")
    assert answer.json == {
        "listtemplatesresponse": {
            "uuidList": [],
            "errorcode": 431,
            "cserrorcode": 4350,
            "errortext": "Unable to execute API command due to missing parameter templatefilter",
            "parameter": "templatefilter",
        }
    }


@pytest_twisted.ensureDeferred
async def test_default_format_is_xml_with_escaped_values(browser: Browser, cloud: SmallCloud) -> None:
    cloud.add_template(name="<a> & b")
    await browser.login()
    answer = await browser.call("listTemplates", templatefilter="all", response="xml")
    assert answer.headers["Content-Type"].startswith("text/xml")
    assert b"<name>&lt;a&gt; &amp; b</name>" in answer.body
    bare = await request(browser.site, "GET", "/client/api?command=x")
    assert bare.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?><errorresponse><errorcode>401<')


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("response=json", 400, "command is missing"),
        ("response=json&command=a&command=b", 430, "more than once"),
        ("response=json&command=a&x=%ff", 430, "not UTF-8"),
        ("response=yaml&command=a", 431, "response"),
        ("response=json&" + "&".join(f"p{n}=1" for n in range(201)), 430, "maximum is 200"),
    ],
)
async def test_unreadable_request_is_rejected_with_its_reason(
    browser: Browser, query: str, status: int, message: str
) -> None:
    answer = await request(browser.site, "GET", f"/client/api?{query}")
    assert answer.status == status
    assert message in answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_long_body_is_rejected_before_it_is_read(browser: Browser) -> None:
    answer = await request(browser.site, "POST", "/client/api", b"a" * (MAX_BODY_BYTES + 1))
    assert answer.status == 413


@pytest_twisted.ensureDeferred
async def test_other_methods_and_paths_have_no_answer(browser: Browser) -> None:
    assert (await request(browser.site, "PUT", "/client/api", b"")).status == 405
    assert (await request(browser.site, "GET", "/client/other")).status == 404


@pytest_twisted.ensureDeferred
async def test_answers_have_security_headers(browser: Browser) -> None:
    answer = await browser.post(command="listZones")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest_twisted.ensureDeferred
async def test_unexpected_error_is_530_and_its_text_is_only_logged(
    browser: Browser, cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(cloud.consoles, "create", broken)
    await browser.login()
    answer = await browser.call("createConsoleEndpoint", virtualmachineid=cloud.cpvm.uuid)
    assert answer.status == 530
    assert b"a secret detail" not in answer.body
    assert answer.headers["X-Request-Id"] in error(answer)["errortext"]


@pytest_twisted.ensureDeferred
async def test_secrets_are_not_logged(browser: Browser, cloud: SmallCloud) -> None:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(cast(ILogObserver, events.append))
    try:
        await browser.login(password="a wrong password")
        await browser.login()
        parameters = signed(command="listZones")
        await browser.get(**parameters)
        await browser.get(command="listZones", sessionkey=browser.session_key)
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, events.append))
    text = repr(events)
    secrets = [ADMIN_PASSWORD, "a wrong password", parameters["signature"], API_KEY, browser.session_key]
    assert [secret for secret in secrets if secret in text] == []
