# SPDX-License-Identifier: Apache-2.0
"""Logins over HTTP: cookies, session keys, requests of other sites, and the limit on logins."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest
import pytest_twisted

from api_client import Browser, error
from in_memory_http import request
from small_cloud import ORIGIN, SmallCloud
from small_cloud.rows import ADMIN_PASSWORD, USER_PASSWORD


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
