# SPDX-License-Identifier: Apache-2.0
"""Users of a real daemon on its page, who are not its administrators, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from integration.cpvm_lab.chromium import Chromium, passing
from integration.daemon_lab import Host

OPERATORS = ("Infrastructure", "System VMs", "Image stores", "Hosts", "Certificates", "Settings")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


def add_account(host: Host, name: str, **more: str) -> None:
    names = {"firstname": name, "lastname": "x", "email": f"{name}@example.test", "accounttype": "0"}
    host.call("createAccount", username=name, password=f"password of {name}", **(names | more))


def log_in(page: Page, host: Host, name: str, domain: str = "") -> None:
    sign_in(page, host, name, domain)
    for section in OPERATORS:
        expect(page.get_by_role("link", name=section, exact=True)).to_have_count(0)


def sign_in(page: Page, host: Host, name: str, domain: str = "") -> None:
    """Log in as anyone, also as an administrator."""
    page.goto(host.page)
    page.fill("#login-form [name=username]", name)
    page.fill("#login-form [name=password]", f"password of {name}")
    page.fill("#login-form [name=domain]", domain)
    page.keyboard.press("Enter")
    expect(page.locator("#cloud")).to_be_visible()
    expect(page.locator("#live")).to_have_text("live")


def agree(page: Page, row: Locator) -> None:
    """Answer the question about a row with yes, and wait until that is done."""
    with passing(page, "document.querySelector('.row [aria-disabled=true]') !== null"):
        press(page.locator("#confirm button.danger"))
    expect(row.locator("[aria-disabled=true]")).to_have_count(0)


def press(button: Locator) -> None:
    """Press a button by keyboard as soon as a user can: it is shown, enabled, and in the open dialog.

    A list shows what a dialog has made when the daemon tells of it, which can be before the dialog closes.
    """
    expect(button).to_be_visible()
    expect(button).to_be_enabled()
    button.page.wait_for_function(
        """(button) => {
            const dialog = document.querySelector("dialog[open]");
            return dialog === null || dialog.contains(button);
        }""",
        arg=button.element_handle(),
    )
    button.focus()
    button.press("Enter")
