# SPDX-License-Identifier: Apache-2.0
"""`/client/api` over HTTP: logins, signatures, cookies, and errors in JSON and XML."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any, cast
from urllib.parse import urlencode

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.web.resource import Resource

from in_memory_http import HttpAnswer, request
from small_cloud import ORIGIN, SmallCloud
from small_cloud_rows import ADMIN_PASSWORD, API_KEY, SECRET_KEY, USER_PASSWORD
from systemvm.management.api.signature import sign
from systemvm.management.api.site import MAX_BODY_BYTES, ManagementSite

UNAUTHORIZED = "unable to verify user credentials and/or request signature"


class Browser:
    """An HTTP client that keeps its cookie and its session key."""

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

    async def login(self, username: str = "admin", password: str = ADMIN_PASSWORD) -> HttpAnswer:
        answer = await self.post(command="login", username=username, password=password)
        if answer.status == 200:
            self.session_key = answer.json["loginresponse"]["sessionkey"]
            self.headers["Cookie"] = str(answer.headers["Set-Cookie"]).partition(";")[0]
        return answer

    async def call(self, command: str, **parameters: str) -> HttpAnswer:
        return await self.post(command=command, sessionkey=self.session_key, **parameters)


@pytest.fixture
def browser(cloud: SmallCloud) -> Browser:
    return Browser(cloud)


def error(answer: HttpAnswer) -> dict[str, Any]:
    [body] = answer.json.values()
    assert body["errorcode"] == answer.status
    return dict(body)


# --- sessions


@pytest_twisted.ensureDeferred
async def test_domain_can_be_named_by_its_id(cloud: SmallCloud, browser: Browser) -> None:
    """Marvin logs in with the id."""
    credentials = {"command": "login", "username": "admin", "password": ADMIN_PASSWORD}
    domain_id = cloud.admin.domain.uuid
    nowhere = "00000000-0000-4000-8000-000000000000"
    assert (await browser.post(**credentials, domainId=domain_id)).status == 200
    assert (await browser.post(**credentials, domainId=nowhere)).status == 531


@pytest_twisted.ensureDeferred
async def test_a_login_opens_a_session_for_later_calls(browser: Browser) -> None:
    answer = (await browser.login()).json["loginresponse"]
    assert (answer["username"], answer["account"], answer["type"]) == ("admin", "admin", "1")
    zones = await browser.call("listZones")
    assert zones.json["listzonesresponse"]["count"] == 1


@pytest_twisted.ensureDeferred
async def test_the_cookie_is_hidden_from_scripts_and_other_sites(browser: Browser) -> None:
    answer = await browser.login()
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["JSESSIONID"]
    assert cookie["httponly"] is True
    assert cookie["samesite"].lower() == "strict"
    assert cookie["path"] == "/client"
    assert len(cookie.value) >= 43


@pytest_twisted.ensureDeferred
async def test_session_needs_both_cookie_and_session_key(browser: Browser) -> None:
    await browser.login()
    assert (await browser.post(command="listZones")).status == 401
    assert (await browser.post(command="listZones", sessionkey="guess")).status == 401
    browser.headers.clear()
    assert (await browser.call("listZones")).status == 401


@pytest_twisted.ensureDeferred
async def test_logout_ends_the_session_and_needs_its_key(browser: Browser) -> None:
    await browser.login()
    assert (await browser.post(command="logout")).status == 401
    assert (await browser.call("logout")).json == {"logoutresponse": {"description": "success"}}
    assert (await browser.call("listZones")).status == 401


@pytest_twisted.ensureDeferred
async def test_page_of_another_site_cannot_use_a_session_with_its_secrets(browser: Browser) -> None:
    await browser.login()
    for header in ({"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        browser.headers |= header
        assert "another site" in error(await browser.call("listZones"))["errortext"]
        browser.headers = {"Cookie": browser.headers["Cookie"]}
    browser.headers |= {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
    assert (await browser.call("listZones")).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("name", "password"), [("admin", "wrong"), ("nobody", "wrong"), ("system", "")])
async def test_wrong_login_has_the_same_error_for_unknown_users(
    browser: Browser, name: str, password: str
) -> None:
    answer = await browser.login(name, password or "x")
    assert answer.status == 531
    assert error(answer)["errortext"].startswith(f"Failed to authenticate user {name}")
    assert "Set-Cookie" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_login_by_get_is_rejected(browser: Browser) -> None:
    answer = await browser.get(command="login", username="admin", password=ADMIN_PASSWORD)
    assert answer.status == 405


@pytest_twisted.ensureDeferred
async def test_password_in_the_url_of_a_post_is_rejected(browser: Browser) -> None:
    target = "/client/api?response=json&command=login&username=admin&password=x"
    assert (await request(browser.site, "POST", target, {"a": "b"})).status == 400


@pytest_twisted.ensureDeferred
async def test_failed_logins_are_limited_by_address_and_by_user(browser: Browser, cloud: SmallCloud) -> None:
    for _ in range(5):
        assert (await browser.login(password="wrong")).status == 531
    limited = await browser.login()
    assert limited.status == 429
    assert int(limited.headers["Retry-After"]) <= 13
    assert (await browser.login("ulla", USER_PASSWORD)).status == 429, "the address is limited too"
    browser.address = "192.0.2.8"
    assert (await browser.login()).status == 429, "the user is limited from every address"
    assert (await browser.login("ulla", USER_PASSWORD)).status == 200
    cloud.clock.advance(13)
    assert (await browser.login()).status == 200


# --- API keys


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


# --- errors and formats


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
