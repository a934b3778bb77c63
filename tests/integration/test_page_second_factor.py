# SPDX-License-Identifier: Apache-2.0
"""Second factors on the page of a real daemon, in a real browser, by keyboard."""

from __future__ import annotations

import re
import time

import pyotp
import pytest
from playwright.sync_api import Locator, Page, expect

from accessibility import violations, violations_light_and_dark
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_user import chromium, press

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host"]  # the fixture


class Phone:
    """An authenticator app, which shows each code once: the present one, or the next one."""

    def __init__(self, secret: str) -> None:
        self._totp = pyotp.TOTP(secret)
        self._last = 0

    def code(self) -> str:
        self._last = max(self._last + 1, int(time.time()) // 30)
        return self._totp.at(self._last * 30)


def add_user(host: Host, name: str) -> None:
    names = {"firstname": name, "lastname": "x", "email": f"{name}@example.test", "accounttype": "0"}
    host.call("createAccount", username=name, password=f"password of {name}", **names)


def log_in(page: Page, name: str) -> None:
    page.fill("#login-form [name=username]", name)
    page.fill("#login-form [name=password]", f"password of {name}")
    page.keyboard.press("Enter")


def secret_in(place: Locator) -> str:
    expect(place.locator(".secret")).to_have_text(re.compile("^[A-Z2-7]{32}$"))
    return place.locator(".secret").inner_text()


def expect_no_secret(page: Page) -> None:
    for place in (page.locator("#second-factor"), page.locator("#code")):
        expect(place.locator(".secret")).to_have_text("")
        expect(place.locator(".qr")).to_be_empty()
        expect(place.locator(".app")).not_to_have_attribute("href", re.compile(".*"))


def enter_code(place: Locator, code: str) -> None:
    place.locator("[name=code]").fill(code)
    place.locator("[name=code]").press("Enter")


def test_a_second_factor_is_set_up_asked_for_and_disabled_by_keyboard(host: Host, chromium: Chromium) -> None:
    host.start()
    add_user(host, "ada")
    host.call("updateConfiguration", name="enable.user.2fa", value="true")

    def steps(page: Page) -> None:
        page.goto(host.page)
        log_in(page, "ada")
        expect(page.locator("#live")).to_have_text("live")
        press(page.get_by_role("button", name="Second factor…"))
        dialog = page.locator("#second-factor")
        phone = Phone(secret_in(dialog))
        expect(dialog.get_by_role("img", name="QR code of the secret")).to_be_visible()
        assert violations_light_and_dark(page) == []
        enter_code(dialog, "000 000")
        expect(dialog.get_by_role("alert")).to_contain_text("code is wrong")
        enter_code(dialog, phone.code())
        expect(dialog).to_be_hidden()
        expect_no_secret(page)
        page.get_by_role("button", name="Log out").click()

        log_in(page, "ada")
        code = page.locator("#code-form")
        expect(code.get_by_label("Code of your authenticator app")).to_be_focused()
        expect(code.locator(".setup")).to_be_hidden()
        assert violations_light_and_dark(page) == []
        page.reload()  # the page asks again, and shows nothing else
        enter_code(code, "000000")
        expect(code.get_by_role("alert")).to_contain_text("code is wrong")
        enter_code(code, phone.code())
        expect(page.locator("#live")).to_have_text("live")

        page.get_by_role("button", name="Second factor…").click()
        page.click("#confirm button.danger")
        expect(page.locator("#toasts")).to_contain_text("The second factor is disabled.")
        page.get_by_role("button", name="Log out").click()
        log_in(page, "ada")
        expect(page.locator("#live")).to_have_text("live")

    chromium.run(steps)


def test_a_mandated_second_factor_is_set_up_in_the_login(host: Host, chromium: Chromium) -> None:
    host.start()
    add_user(host, "bob")
    for name in ("enable.user.2fa", "mandate.user.2fa"):
        host.call("updateConfiguration", name=name, value="true")

    def steps(page: Page) -> None:
        page.goto(host.page)
        log_in(page, "bob")
        code = page.locator("#code-form")
        phone = Phone(secret_in(code))
        assert violations(page) == []
        code.get_by_role("button", name="Cancel").click()
        expect(page.locator("#login-form")).to_be_visible()
        expect_no_secret(page)
        log_in(page, "bob")
        expect(code.locator(".secret")).not_to_have_text(phone._totp.secret)
        phone = Phone(secret_in(code))
        enter_code(code, phone.code())
        expect(page.locator("#live")).to_have_text("live")
        expect_no_secret(page)
        page.reload()
        expect(page.locator("#live")).to_have_text("live")

    chromium.run(steps)
