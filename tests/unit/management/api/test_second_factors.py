# SPDX-License-Identifier: Apache-2.0
"""Second factors over HTTP: set up, asked for at each login, refused when wrong, used or guessed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyotp
import pytest
import pytest_twisted
from attrs import evolve
from twisted.logger import capturedLogs, formatEvent

from api_client import Browser, error
from api_requests import refusal
from small_cloud import SmallCloud
from small_cloud.rows import HASHER, USER_PASSWORD
from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import events, second_factors
from systemvm.management.state.columns import now
from systemvm.management.state.status import AccountType

CHANGE, CHECK = "setupUserTwoFactorAuthentication", "validateUserTwoFactorAuthenticationCode"


class Phone:
    """An authenticator app. Each code that it shows is a new one, as if its user waited for it."""

    def __init__(self, cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self._began, self._steps = now(), 0
        self.secret = ""
        monkeypatch.setattr(cloud.second_factors, "_clock", self.time)

    def time(self) -> datetime:
        return datetime.fromtimestamp(self._began.timestamp() + 30 * self._steps, self._began.tzinfo)

    def code(self) -> str:
        self._steps += 1
        return self.shown()

    def shown(self) -> str:
        return pyotp.TOTP(self.secret).at(int(self.time().timestamp()))


@pytest.fixture
def phone(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> Phone:
    return Phone(cloud, monkeypatch)


async def switch(cloud: SmallCloud, **settings: str) -> None:
    names = {"enable": "enable.user.2fa", "mandate": "mandate.user.2fa", "issuer": "user.2fa.issuer"}
    for name, value in settings.items():
        await cloud.call("updateConfiguration", name=names[name], value=value)


async def enrol(browser: Browser, phone: Phone) -> None:
    """Log in as ulla, set up the second factor, and log out."""
    await browser.login("ulla", USER_PASSWORD)
    answer = await browser.call(CHANGE, provider="totp")
    phone.secret = answer.json["setupusertwofactorauthenticationresponse"]["setup2fa"]["secretcode"]
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 200
    await browser.call("logout")


async def log_in(browser: Browser) -> dict[str, Any]:
    answer = (await browser.login("ulla", USER_PASSWORD)).json["loginresponse"]
    return {key: value for key, value in answer.items() if "2fa" in key}


@pytest_twisted.ensureDeferred
async def test_without_a_second_factor_a_login_is_as_before(browser: Browser) -> None:
    assert await log_in(browser) == {"is2faenabled": "false", "is2faverified": "true"}
    assert (await browser.call("listZones")).status == 200


@pytest_twisted.ensureDeferred
async def test_setup_is_refused_until_it_is_enabled(browser: Browser, cloud: SmallCloud) -> None:
    await browser.login("ulla", USER_PASSWORD)
    refused = error(await browser.call(CHANGE))
    assert (refused["errorcode"], "enable.user.2fa" in refused["hint"]) == (431, True)
    await switch(cloud, enable="true")
    assert (await browser.call(CHANGE)).status == 200


@pytest_twisted.ensureDeferred
async def test_an_unconfirmed_setup_locks_nobody_out(
    browser: Browser, cloud: SmallCloud, phone: Phone
) -> None:
    await switch(cloud, enable="true")
    await browser.login("ulla", USER_PASSWORD)
    first = (await browser.call(CHANGE)).json["setupusertwofactorauthenticationresponse"]["setup2fa"]
    assert first["uri"].startswith("otpauth://totp/CloudStack:ulla?secret=")
    phone.secret = first["secretcode"]
    assert (await log_in(browser))["is2faverified"] == "true"
    await browser.call(CHANGE)  # begun again: the first secret is void
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 511
    assert (await log_in(browser))["is2faverified"] == "true"


@pytest_twisted.ensureDeferred
async def test_a_login_needs_the_code(browser: Browser, cloud: SmallCloud, phone: Phone) -> None:
    await switch(cloud, enable="true", issuer="Example Cloud")
    await enrol(browser, phone)
    assert await log_in(browser) == {
        "is2faenabled": "true",
        "is2faverified": "false",
        "providerfor2fa": "totp",
        "issuerfor2fa": "Example Cloud",
    }
    refused = await browser.call("listZones")
    assert (refused.status, error(refused)["errortext"]) == (511, "two factor authentication is required")
    assert (await browser.call(CHECK, codefor2fa=phone.code())).json == {
        "validateusertwofactorauthenticationcoderesponse": {"success": True}
    }
    assert (await browser.call("listZones")).status == 200
    [row] = (await cloud.call("listUsers", username="ulla", listall="true"))["user"]
    assert (row["is2faenabled"], row["is2famandated"]) == (True, False)


@pytest_twisted.ensureDeferred
async def test_an_unverified_session_reaches_nothing_but_the_verification(
    browser: Browser, cloud: SmallCloud, phone: Phone
) -> None:
    await switch(cloud, enable="true")
    await enrol(browser, phone)
    await log_in(browser)
    reached = set()
    for command in cloud.table:
        if command.name in ("login", "logout", CHECK):
            continue
        if (await browser.call(command.name)).status != 511:
            reached.add(command.name)
    # the setup is refused otherwise: there is a second factor
    assert reached == {"listUserTwoFactorAuthenticatorProviders", CHANGE}
    assert error(await browser.call(CHANGE))["errorcode"] == 431
    assert (await browser.call(CHANGE, enable="false")).status == 511
    assert (await browser.call("logout")).status == 200


@pytest_twisted.ensureDeferred
async def test_only_its_own_session_is_verified(browser: Browser, cloud: SmallCloud, phone: Phone) -> None:
    await switch(cloud, enable="true")
    await enrol(browser, phone)
    other = Browser(cloud)
    await log_in(other)
    await log_in(browser)
    await browser.call(CHECK, codefor2fa=phone.code())
    assert (await browser.call("listZones")).status == 200
    assert (await other.call("listZones")).status == 511


@pytest_twisted.ensureDeferred
async def test_a_code_works_once(browser: Browser, cloud: SmallCloud, phone: Phone) -> None:
    await switch(cloud, enable="true")
    await enrol(browser, phone)
    await log_in(browser)
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 200
    await log_in(browser)
    assert (await browser.call(CHECK, codefor2fa=phone.shown())).status == 511
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 200


@pytest_twisted.ensureDeferred
async def test_a_code_that_two_send_at_once_verifies_one(cloud: SmallCloud, phone: Phone) -> None:
    await switch(cloud, enable="true")
    phone.secret = (await cloud.second_factors.set_up(cloud.user.user.id)).secret
    factor = cloud.database.run_now(second_factors.of_user, cloud.user.user.id)
    assert factor is not None
    taken = [cloud.database.run_now(second_factors.use, factor, 7) for _ in range(2)]
    assert taken == [True, False]


@pytest_twisted.ensureDeferred
async def test_guesses_are_limited_for_the_user_and_for_nobody_else(
    browser: Browser, cloud: SmallCloud, phone: Phone
) -> None:
    await switch(cloud, enable="true")
    await enrol(browser, phone)
    await log_in(browser)
    with capturedLogs() as logged:
        for _ in range(5):
            assert (await browser.call(CHECK, codefor2fa="0")).status == 511
    refused = [formatEvent(event) for event in logged if "refused" in str(event.get("log_format"))]
    assert refused == [f"code of 'ulla' refused from {browser.address}"] * 5
    browser.address = "198.51.100.9"  # another source does not help
    right = await browser.call(CHECK, codefor2fa=phone.code())
    assert (right.status, error(right)["errortext"]) == (429, "too many wrong codes")
    assert int(right.headers["Retry-After"]) <= 61
    cloud.clock.advance(61)
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 200


@pytest_twisted.ensureDeferred
async def test_a_mandated_second_factor_is_set_up_before_anything_else(
    browser: Browser, cloud: SmallCloud, phone: Phone
) -> None:
    await switch(cloud, mandate="true")
    assert (await log_in(browser))["is2faverified"] == "true"  # not enabled
    await switch(cloud, enable="true")
    assert await log_in(browser) == {
        "is2faenabled": "true", "is2faverified": "false", "issuerfor2fa": "CloudStack",
    }  # fmt: skip
    assert (await browser.call("listZones")).status == 511
    answer = await browser.call(CHANGE)
    phone.secret = answer.json["setupusertwofactorauthenticationresponse"]["setup2fa"]["secretcode"]
    assert (await browser.call("listZones")).status == 511
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 200
    assert (await browser.call("listZones")).status == 200
    refused = error(await browser.call(CHANGE, enable="false"))
    assert "mandated" in refused["errortext"]


@pytest_twisted.ensureDeferred
async def test_an_administrator_mandates_a_second_factor_of_one_user(
    browser: Browser, cloud: SmallCloud, phone: Phone
) -> None:
    await browser.login("ulla", USER_PASSWORD)
    refused = await browser.call("updateUser", id=cloud.user.user.uuid, mandate2fa="false")
    assert refused.status == 401
    answer = await cloud.call("updateUser", id=cloud.user.user.uuid, mandate2fa="true")
    assert answer["user"]["is2famandated"] is False  # nobody can set one up yet
    assert (await log_in(browser))["is2faverified"] == "true"
    await switch(cloud, enable="true")
    rows = (await cloud.call("listUsers", listall="true"))["user"]
    assert [row["username"] for row in rows if row["is2famandated"]] == ["ulla"]
    assert (await log_in(browser))["is2faverified"] == "false"
    answer = await browser.call(CHANGE)
    phone.secret = answer.json["setupusertwofactorauthenticationresponse"]["setup2fa"]["secretcode"]
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 200
    assert "mandated" in error(await browser.call(CHANGE, enable="false"))["errortext"]
    await cloud.call("updateUser", id=cloud.user.user.uuid, mandate2fa="false")
    assert (await browser.call(CHANGE, enable="false")).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", [AccountType.DOMAIN_ADMIN, AccountType.ADMIN])
async def test_no_administrator_lifts_the_own_mandate(cloud: SmallCloud, kind: AccountType) -> None:
    user = cloud.user.user
    of_user = evolve(cloud.user, account=evolve(cloud.user.account, type=kind))
    own = {"id": user.uuid, "mandate2fa": "false"}
    await switch(cloud, enable="true")
    await cloud.call("updateUser", id=user.uuid, mandate2fa="true")
    assert (await refusal(cloud, "updateUser", of_user, **own)).code is ErrorCode.UNAUTHORIZED
    assert (await cloud.second_factors.requirement(user.id)).is_mandated
    await cloud.call("updateUser", of_user, id=user.uuid, mandate2fa="true")
    await cloud.call("updateUser", evolve(of_user, is_operator=True), **own)
    assert not (await cloud.second_factors.requirement(user.id)).is_mandated


@pytest_twisted.ensureDeferred
async def test_operators_take_the_second_factor_of_whom_they_act_as(cloud: SmallCloud, phone: Phone) -> None:
    await switch(cloud, enable="true", mandate="true")
    operator = await Authenticator(cloud.database, cloud.seal, HASHER).operator()
    user = operator.user
    phone.secret = (await cloud.second_factors.set_up(user.id)).secret
    assert await cloud.second_factors.validate(user.id, phone.code(), None)
    by_key = evolve(operator, is_operator=False)
    own = {"enable": "false", "userid": user.uuid}
    with pytest.raises(AccountError, match="mandated"):
        await cloud.call(CHANGE, by_key, **own)
    await cloud.call(CHANGE, operator, **own)
    assert not (await cloud.second_factors.requirement(user.id)).is_set_up


@pytest_twisted.ensureDeferred
async def test_a_user_and_an_administrator_disable_it(
    browser: Browser, cloud: SmallCloud, phone: Phone
) -> None:
    await switch(cloud, enable="true")
    await enrol(browser, phone)
    await log_in(browser)
    await browser.call(CHECK, codefor2fa=phone.code())
    assert (await browser.call(CHANGE, enable="false")).status == 200
    assert (await log_in(browser))["is2faverified"] == "true"

    await enrol(browser, phone)
    await log_in(browser)  # waits for a code while it is disabled
    answer = await cloud.call(CHANGE, enable="false", userid=cloud.user.user.uuid)
    assert answer["setup2fa"] == {
        "id": cloud.user.user.uuid, "username": "ulla", "accountid": cloud.user.account.uuid,
    }  # fmt: skip
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 401
    assert (await log_in(browser))["is2faverified"] == "true"
    found, _ = cloud.database.run_now(events.page, events.EventFilter(keyword="second factor"), slice(0, 9))
    assert [event.description for event in found][:2] == [
        "user ulla has no second factor any more", "user ulla has a second factor",
    ]  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_users_cannot_disable_that_of_others(cloud: SmallCloud) -> None:
    stranger = {"enable": "false", "userid": cloud.admin.user.uuid}
    assert (await refusal(cloud, CHANGE, cloud.user, **stranger)).code is ErrorCode.UNAUTHORIZED
    assert (await refusal(cloud, CHANGE, userid=cloud.user.user.uuid)).code is ErrorCode.PARAMETER
    assert (await refusal(cloud, CHANGE, provider="staticpin")).code is ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_copied_database_reveals_no_secret(cloud: SmallCloud) -> None:
    await switch(cloud, enable="true")
    enrolment = await cloud.second_factors.set_up(cloud.user.user.id)
    files = b"".join(path.read_bytes() for path in cloud.primary.directory.glob("systemvm.sqlite*"))
    assert enrolment.secret.encode() not in files
    assert enrolment.secret not in repr(enrolment)


@pytest_twisted.ensureDeferred
async def test_its_provider_is_listed(cloud: SmallCloud) -> None:
    listed = "listUserTwoFactorAuthenticatorProviders"
    assert [row["name"] for row in (await cloud.call(listed))["providers"]] == ["totp"]
    assert await cloud.call(listed, name="staticpin") == {}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("issuer", ["", "a:b", "x" * 65, "a\nb"])
async def test_an_issuer_that_apps_cannot_show_is_refused(cloud: SmallCloud, issuer: str) -> None:
    wrong = await refusal(cloud, "updateConfiguration", name="user.2fa.issuer", value=issuer)
    assert wrong.code is ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_a_code_without_a_setup_is_refused(browser: Browser) -> None:
    await browser.login("ulla", USER_PASSWORD)
    assert error(await browser.call(CHECK, codefor2fa="1"))["errortext"] == "user has no second factor"


@pytest_twisted.ensureDeferred
async def test_a_role_that_denies_the_verification_locks_nobody_out(
    browser: Browser, cloud: SmallCloud, phone: Phone
) -> None:
    await switch(cloud, enable="true")
    await enrol(browser, phone)
    role = (await cloud.call("createRole", name="zones", type="User"))["role"]["id"]
    await cloud.call("createRolePermission", roleid=role, rule="listZones", permission="allow")
    await cloud.call("updateAccount", id=cloud.user.account.uuid, roleid=role)
    await log_in(browser)
    assert (await browser.call(CHECK, codefor2fa=phone.code())).status == 200
    assert (await browser.call("listZones")).status == 200
    assert (await browser.call("listUsers")).status == 432
