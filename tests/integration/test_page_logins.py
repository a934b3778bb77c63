# SPDX-License-Identifier: Apache-2.0
"""What stays on the page of one login in the next one, without a daemon."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import RefusedError, StubbedPage, chromium, shown_anywhere

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

VOLUME = {"id": "v", "name": "of una", "type": "DATADISK", "state": "Ready", "size": 1, "account": "una"}
OF_UNA = {"volume": [VOLUME], "count": 1}


def narrow(page: Page) -> None:
    """Search, and open a question about what is found."""
    expect(page.locator("#volumes .row")).to_contain_text("of una")
    page.get_by_label("Search volumes").fill("una")
    page.locator("#volumes [name=state]").select_option("Ready")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#confirm")).to_be_visible()


def expect_nothing_of_una(page: Page) -> None:
    assert "of una" not in shown_anywhere(page)
    assert page.evaluate("[...document.querySelectorAll('[type=search]')].every(({ value }) => !value)")


def test_nothing_of_a_user_stays_after_the_logout(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, listVolumes=OF_UNA, deleteVolume={})
        stub.log_in()
        narrow(page)
        page.keyboard.press("Escape")
        page.click("#logout")
        expect(page.locator("#login")).to_be_visible()
        expect_nothing_of_una(page)
        stub.answers["listVolumes"] = {}
        stub.log_in("ben")
        expect_nothing_of_una(page)
        assert "keyword" not in stub.calls[-1]

    chromium.run(steps)


def test_another_user_sees_nothing_of_a_session_that_was_lost(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, listVolumes=OF_UNA, deleteVolume={})
        stub.log_in()
        narrow(page)
        stub.answers["listVolumes"] = RefusedError(401)
        stub.changed("volumes")
        expect(page.locator("#login")).to_be_visible()
        expect(page.locator("dialog[open]")).to_have_count(0)
        stub.answers["listVolumes"] = {}
        stub.log_in("ben")
        expect(page.locator("#volumes .empty")).to_be_visible()
        expect_nothing_of_una(page)

    chromium.run(steps)


def test_an_answer_after_the_session_was_lost_shows_nothing(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, listVolumes=OF_UNA)
        stub.log_in()
        stub.hold("listVolumes")
        with page.expect_request("**/client/api"):
            stub.changed("volumes")
        page.evaluate("import('./api.js').then(({ forget }) => forget())")
        stub.release("listVolumes")
        expect(page.locator("#login")).to_be_visible()
        expect(page.locator("#cloud")).to_be_hidden()

    chromium.run(steps)


def test_no_login_is_shown_that_the_end_of_a_logout_would_empty(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, listVolumes=OF_UNA)
        stub.log_in()
        stub.hold("logout")
        page.click("#logout")
        # the session has ended, and the logout is not answered yet
        stub.answers["listVolumes"] = RefusedError(401)
        stub.changed("volumes")
        expect(page.locator("#live")).to_have_text("not connected")
        expect(page.locator("#login")).to_be_hidden()
        stub.answers["listVolumes"] = {}
        stub.release("logout")
        stub.log_in("ben")
        expect(page.locator("#volumes .empty")).to_be_visible()

    chromium.run(steps)
