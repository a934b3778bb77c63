# SPDX-License-Identifier: Apache-2.0
"""Calls of the API are limited for each account by CloudStack's settings, once they are enabled."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from api_client import Browser, error
from small_cloud import SmallCloud
from small_cloud.rows import USER_PASSWORD
from systemvm.management.api.errors import ApiError
from systemvm.management.api.throttle import MAX_TRACKED, CallCounter
from systemvm.management.configurations.throttling import ThrottlingLimits

LIMITS = ThrottlingLimits(enabled=True, interval_s=10, max_calls=3)


async def enable(cloud: SmallCloud, **values: str) -> None:
    for name, value in {"enabled": "true", "max": "3", "interval": "10", **values}.items():
        await cloud.call("updateConfiguration", name=f"api.throttling.{name}", value=value)


async def user_of(cloud: SmallCloud) -> Browser:
    browser = Browser(cloud)
    await browser.login(cloud.user.user.username, USER_PASSWORD)
    return browser


async def limit_of(cloud: SmallCloud, who: Any = None) -> dict[str, Any]:
    limit: dict[str, Any] = (await cloud.call("getApiLimit", who or cloud.user))["apilimit"]
    return limit


@pytest_twisted.ensureDeferred
async def test_nothing_is_limited_by_default(cloud: SmallCloud) -> None:
    browser = await user_of(cloud)
    assert [(await browser.call("listZones")).status for _ in range(40)] == [200] * 40
    assert (await limit_of(cloud))["apiAllowed"] == 25


@pytest_twisted.ensureDeferred
async def test_calls_beyond_the_limit_are_refused_until_the_interval_ends(cloud: SmallCloud) -> None:
    await enable(cloud)
    browser = await user_of(cloud)
    assert [(await browser.call("listZones")).status for _ in range(3)] == [200] * 3
    cloud.clock.advance(4)
    refused = await browser.call("listZones")
    assert refused.status == 429
    assert error(refused)["errortext"] == (
        "The given user has reached his/her account api limit, please retry after 6000 ms."
    )
    assert int(str(refused.headers["Retry-After"])) == 7
    cloud.clock.advance(6)
    assert (await browser.call("listZones")).status == 200


@pytest_twisted.ensureDeferred
async def test_another_account_and_the_root_administrator_are_not_slowed(cloud: SmallCloud) -> None:
    await enable(cloud, max="1")
    browser, admin = await user_of(cloud), Browser(cloud)
    await admin.login()
    assert [(await browser.call("listZones")).status for _ in range(2)] == [200, 429]
    assert [(await admin.call("listZones")).status for _ in range(5)] == [200] * 5
    assert (await limit_of(cloud, cloud.admin))["apiIssued"] == 0


@pytest_twisted.ensureDeferred
async def test_calls_that_fail_count_too(cloud: SmallCloud) -> None:
    await enable(cloud)
    browser = await user_of(cloud)
    statuses = [(await browser.call(name)).status for name in ("noCommand", "listZones", "noCommand", "x")]
    assert statuses == [432, 200, 432, 429]


@pytest_twisted.ensureDeferred
async def test_an_administrator_begins_a_new_interval(cloud: SmallCloud) -> None:
    await enable(cloud)
    browser = await user_of(cloud)
    for _ in range(3):
        await browser.call("listZones")
    assert await limit_of(cloud) == {
        "account": cloud.user.account.name, "accountid": cloud.user.account.uuid,
        "apiIssued": 3, "apiAllowed": 3, "expireAfter": 10_000,
    }  # fmt: skip
    await cloud.call("resetApiLimit", account=cloud.user.account.uuid)
    assert (await limit_of(cloud))["apiIssued"] == 0
    assert (await browser.call("listZones")).status == 200
    await cloud.call("resetApiLimit")
    assert (await limit_of(cloud))["apiIssued"] == 0
    with pytest.raises(ApiError):
        await cloud.call("resetApiLimit", cloud.user)


@pytest_twisted.ensureDeferred
async def test_settings_hold_at_once(cloud: SmallCloud) -> None:
    await enable(cloud, max="1")
    browser = await user_of(cloud)
    assert [(await browser.call("listZones")).status for _ in range(2)] == [200, 429]
    await cloud.call("updateConfiguration", name="api.throttling.max", value="4")
    assert [(await browser.call("listZones")).status for _ in range(3)] == [200, 200, 429]
    await cloud.call("resetConfiguration", name="api.throttling.enabled")
    assert (await browser.call("listZones")).status == 200


@pytest.mark.parametrize(("interval_s", "left_s"), [(5, 1), (60, 56)])
def test_another_interval_holds_for_those_that_have_begun(interval_s: int, left_s: int) -> None:
    now_s = [0.0]
    counter = CallCounter(lambda: now_s[0])
    for _ in range(LIMITS.max_calls):
        counter.admit(1, LIMITS)
    changed = evolve(LIMITS, interval_s=interval_s)
    now_s[0] = 4.0
    assert counter.issued(1, changed).expires_s == left_s
    with pytest.raises(ApiError):
        counter.admit(1, changed)
    now_s[0] = interval_s
    counter.admit(1, changed)


def test_memory_is_bounded_whatever_accounts_call() -> None:
    now_s = [0.0]
    counter = CallCounter(lambda: now_s[0])
    for account in range(MAX_TRACKED + 5):
        counter.admit(account, LIMITS)
    assert len(counter._windows) == MAX_TRACKED
    assert counter.issued(0, LIMITS).issued == 0
    assert counter.issued(MAX_TRACKED, LIMITS).issued == 1
    now_s[0] = 10.0
    counter.admit(MAX_TRACKED, LIMITS)
    assert counter.issued(MAX_TRACKED, LIMITS).issued == 1
