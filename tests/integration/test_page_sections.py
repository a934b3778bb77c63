# SPDX-License-Identifier: Apache-2.0
"""Each section of the page of a real daemon, in Chromium and Firefox, for an administrator, a domain
administrator and a user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect

from accessibility import use_scheme, violations
from console_page import open_section
from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host_with
from integration.page_user import add_account, log_in, press, sign_in

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

__all__ = ["browser"]  # a fixture

OF_USERS = [
    "Templates and ISOs",
    "Virtual machines",
    "Volumes",
    "Snapshots",
    "Networks",
    "Offerings",
    "Events",
    "Limits",
    "Usage",
]
OF_DOMAIN_ADMINISTRATORS = [*OF_USERS, "Accounts", "Users", "Domains", "Roles"]
OF_ADMINISTRATORS = [
    *OF_DOMAIN_ADMINISTRATORS,
    "Picture of the zone",
    "Infrastructure",
    "System VMs",
    "Image stores",
    "Storage pools",
    "Hosts",
    "Settings",
    "Alerts",
    "Certificates",
]
PARTS = ["Zones", "Physical networks", "Traffic types", "Pods", "Clusters", "IP ranges"]
EVENTS = 10_000
NARROW: ViewportSize = {"width": 360, "height": 700}
#: What the page asks for, and what it was told of changes.
COUNT = """
window.asked = window.told = 0;
const send = window.fetch, Stream = window.EventSource;
window.fetch = (...all) => { window.asked += 1; return send(...all); };
window.EventSource = class extends Stream {
  constructor(...all) {
    super(...all);
    this.addEventListener("message", () => { window.told += 1; });
  }
};
"""
AN_HOUR_MS = 3_600_000
LOADED = ":is(.row, .card, .empty, svg, tbody tr):visible"  # a section's first row, or that it has none


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One daemon for all tests here, with an account of each type and one with many events."""
    with host_with(tmp_path_factory.mktemp("sections")) as host:
        host.start()
        domain = host.call("createDomain", name="research")["domain"]["id"]
        add_account(host, "alma", accounttype="1")
        add_account(host, "dora", accounttype="2", domainid=domain)
        add_account(host, "una")
        add_account(host, "eve")
        add_events(host, "eve")
        yield host


def add_events(host: Host, name: str) -> None:
    with sqlite3.connect(host.layout.database, timeout=60) as database:
        [account] = database.execute("SELECT id FROM accounts WHERE name = ?", (name,)).fetchone()
        columns = "uuid, account_id, domain_id, type, level, state, description, created"
        values = "?, ?, 1, 'TEST', 'WARN', 'Completed', ?, '2026-01-01 00:00:00'"
        database.executemany(
            f"INSERT INTO events ({columns}) VALUES ({values})",
            ((f"00000000-0000-4000-8000-{n:012}", account, f"number {n:05}") for n in range(EVENTS)),
        )


def walk(page: Page, titles: list[str]) -> None:
    """Open each section by its link, with the keyboard, and check it."""
    links = page.get_by_role("navigation", name="Sections").get_by_role("link")
    shown = links.all_inner_texts()
    assert sorted(shown) == sorted(titles)
    for title in shown:
        link = page.get_by_role("link", name=title, exact=True)
        press(link)
        heading = page.get_by_role("heading", name=title, exact=True)
        expect(heading).to_be_visible()
        if title != shown[0]:
            expect(heading).to_be_focused()
        expect(page.locator("#live")).to_have_text("live")
        assert page.locator("main > section:visible").count() == 1
        expect(page.locator(f"section:visible {LOADED}").first).to_be_visible()
        for place in (
            page.locator("section:visible .list:visible").filter(has=page.get_by_role("search")).all()
        ):
            assert place.locator("th .sort").or_(place.get_by_label("Order")).count(), (
                f"{title} is not sorted"
            )
        assert violations(page) == [], title
        expect(page.locator("section:visible [role=alert]:visible")).to_have_count(0)


def walk_narrow_and_dark(page: Page) -> None:
    """Check the sections again where both is different: how they are laid out, and their colours."""
    page.set_viewport_size(NARROW)
    use_scheme(page, "dark")
    links = page.get_by_role("navigation", name="Sections").get_by_role("link")
    for title in links.all_inner_texts():
        open_section(page, title)
        assert violations(page) == [], f"{title}, narrow and dark"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), title


def walk_infrastructure(page: Page) -> None:
    """Open each part of the section Infrastructure by its link, with the keyboard, and check it."""
    open_section(page, "Infrastructure")
    links = page.get_by_role("navigation", name="Parts of the infrastructure").get_by_role("link")
    expect(links).to_have_text(PARTS)
    for link in links.all():
        press(link)
        expect(link).to_have_attribute("aria-current", "page")
        expect(link).to_be_focused()
        expect(page.locator("section:visible .list:visible").locator(LOADED).first).to_be_visible()
        assert page.locator("section:visible .list:visible").count() == 1
        assert violations(page) == [], link.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), link.inner_text()


def retype(number: Locator, text: str) -> None:
    """Replace what is in a field of numbers, where `fill` adds to it in Firefox."""
    number.press("Control+a")
    number.press_sequentially(text)


#: A dialog closes after its values were sent, and opens again before that event, which waits for a frame.
OPENED_AGAIN_AT_ONCE = """(opener) => {
    const dialog = document.querySelector("#fields");
    dialog.querySelector("[value=ok]").disabled = true;
    dialog.close();
    opener.click();
    return dialog.querySelector("[value=ok]").disabled;
}"""


def change_offerings(page: Page) -> None:
    open_section(page, "Offerings")
    place, dialog = page.locator("#offerings"), page.locator("#fields")
    rows = place.locator(".row")
    press(page.get_by_role("button", name="Add for virtual machines…"))
    dialog.get_by_label("Name").fill("<b>wide</b>")
    retype(dialog.get_by_label("Memory in MiB"), "2097152")
    assert violations(page) == []
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("must be 32 to 1048576 MiB")
    retype(dialog.get_by_label("Memory in MiB"), "98304")
    dialog.get_by_label("Disks are").select_option("in a storage pool")
    dialog.get_by_label("Only in storage pools").fill("ssd")
    page.keyboard.press("Enter")
    wide = rows.filter(has_text="<b>wide</b>")
    expect(wide).to_contain_text("96.0 GiB")
    expect(wide).to_contain_text("pools with ssd")
    for _ in range(2):
        press(place.get_by_role("button", name="Size or type"))
    expect(rows.first).to_contain_text("96.0 GiB")
    press(wide.get_by_role("button", name="Edit…"))
    assert not wide.get_by_role("button", name="Edit…").evaluate(OPENED_AGAIN_AT_ONCE), "Enter sends nothing"
    dialog.get_by_label("Description").fill("for databases")
    page.keyboard.press("Enter")
    expect(wide).to_contain_text("for databases")
    press(wide.get_by_role("button", name="<b>wide</b>", exact=True))
    details = page.locator("#details")
    expect(details.locator("#details-tags")).to_be_hidden()
    expect(details.get_by_label("Only administrators see it")).to_be_hidden()
    details.get_by_label("Text").fill("ask the customer first")
    page.keyboard.press("Enter")
    expect(details.locator("li")).to_contain_text("ask the customer first")
    page.keyboard.press("Escape")
    page.get_by_label("Search offerings").fill("WIDE")
    expect(rows).to_have_count(1)
    press(wide.get_by_role("button", name="Delete"))
    press(page.locator("#confirm button.danger"))
    expect(place.locator(".empty")).to_have_text("No offerings fit.")
    page.get_by_label("Search offerings").fill("")

    place.get_by_label("Kind").select_option("volumes")
    press(page.get_by_role("button", name="Add for volumes…"))
    dialog.get_by_label("Name").fill("elastic")
    page.keyboard.press("Enter")
    expect(rows.filter(has_text="elastic")).to_contain_text("chosen by its user")
    press(rows.filter(has_text="elastic").get_by_role("button", name="Delete"))
    press(page.locator("#confirm button.danger"))
    expect(rows.filter(has_text="elastic")).to_have_count(0)
    place.get_by_label("Kind").select_option("networks")
    expect(rows.first).to_contain_text("Shared")
    expect(rows.get_by_role("button")).to_have_count(0)


def create_volume(page: Page, name: str) -> Locator:
    open_section(page, "Volumes")
    press(page.get_by_role("button", name="Create…"))
    page.locator("#fields").get_by_label("Name").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#fields")).to_be_hidden()
    row = page.locator("#volumes .row", has_text=name)
    expect(row).to_be_visible()
    return row


def tag_and_annotate(page: Page, cloud: Host, name: str) -> None:
    """Give a new volume a tag and a text, find it by the tag, and take both away."""
    row, details = create_volume(page, name), page.locator("#details")
    [volume] = cloud.call("listVolumes", name=name, listall="true")["volume"]
    press(row.get_by_role("button", name=name, exact=True))
    expect(details).to_contain_text(volume["id"])
    expect(details).to_contain_text("It has no tags.")
    key, tags, texts = details.get_by_label("Key"), details.locator("tbody tr"), details.locator("li")
    for value in ("production", "test"):
        key.fill("env")
        details.get_by_label("Value").fill(value)
        page.keyboard.press("Enter")
        expect(tags).to_have_count(1)
        if value == "production":
            expect(key).to_be_focused()
    expect(details.get_by_role("alert")).to_contain_text("already on")
    details.get_by_label("Text").fill("<i>moves</i> on Friday")
    page.keyboard.press("Enter")
    expect(texts).to_contain_text(["<i>moves</i> on Friday"])
    about = {"entitytype": "VOLUME", "entityid": volume["id"]}
    cloud.call("addAnnotation", annotation="not for its owner", adminsonly="true", **about)
    cloud.call("addAnnotation", annotation="we know", **about)
    expect(texts).to_have_count(2)  # at once
    expect(texts.filter(has_text="we know").get_by_role("button")).to_have_count(0)
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(row.get_by_role("button", name=name, exact=True)).to_be_focused()
    expect(row).to_contain_text("env=production")

    by_tag, place = page.get_by_role("textbox", name="Tag"), page.locator("#volumes")
    for text, shown in (("env=test", ".empty"), ("env", "[role=alert]"), ("env=production", ".row")):
        by_tag.fill(text)
        by_tag.press("Enter")
        expect(place.locator(shown)).to_be_visible()
    by_tag.fill("")
    by_tag.press("Enter")
    press(row.get_by_role("button", name=name, exact=True))
    press(details.get_by_role("button", name="Delete tag env"))
    expect(tags).to_have_count(0)
    expect(key).to_be_focused()
    press(texts.filter(has_text="moves").get_by_role("button", name="Delete"))
    expect(texts).to_have_count(1)
    press(details.get_by_role("button", name="Close"))
    expect(row.locator(".tags")).to_have_count(0)


def test_an_administrator_walks_all_sections(cloud: Host, browser: Chromium) -> None:
    def steps(page: Page) -> None:
        sign_in(page, cloud, "alma")
        walk(page, OF_ADMINISTRATORS)
        walk_infrastructure(page)

        change_offerings(page)
        walk_narrow_and_dark(page)
        walk_infrastructure(page)

    browser.run(steps)


def test_a_domain_administrator_walks_what_the_role_permits(cloud: Host, browser: Chromium) -> None:
    def steps(page: Page) -> None:
        log_in(page, cloud, "dora", "research")
        walk(page, OF_DOMAIN_ADMINISTRATORS)
        for section, opener in (
            ("Accounts", "Add account…"),
            ("Users", "Add user…"),
            ("Domains", "Add domain…"),
        ):
            open_section(page, section)
            press(page.get_by_role("button", name=opener))
            expect(page.locator("#fields")).to_be_visible()
            assert violations(page) == [], opener
            page.keyboard.press("Escape")
            expect(page.get_by_role("button", name=opener)).to_be_focused()
        open_section(page, "Offerings")
        expect(page.locator("#offerings .row").first).to_be_visible()
        expect(page.locator("[data-section=offerings]").get_by_role("button", name="Add")).to_have_count(0)
        expect(page.locator("#offerings .row").get_by_role("button")).to_have_count(0)

    browser.run(steps)


def test_a_user_walks_only_what_the_role_permits(cloud: Host, browser: Chromium) -> None:
    def steps(page: Page) -> None:
        log_in(page, cloud, "una")
        walk(page, OF_USERS)
        tag_and_annotate(page, cloud, f"data-{type(browser).__name__}")
        open_section(page, "Events")
        page.reload()
        expect(page.get_by_role("heading", name="Events", exact=True)).to_be_visible()
        page.goto(f"{cloud.page}/#/settings")
        page.reload()
        expect(page.get_by_role("heading", name="Templates and ISOs")).to_be_visible()

    browser.run(steps)


def test_a_long_list_is_searched_sorted_and_paged_by_the_daemon(cloud: Host, browser: Chromium) -> None:
    def steps(page: Page) -> None:
        log_in(page, cloud, "eve")
        open_section(page, "Events")
        rows, count = page.locator("#events .row"), page.locator("#events .pages [role=status]")
        kind = page.locator("#events").get_by_label("Type")
        kind.fill("TEST")
        kind.press("Enter")
        expect(count).to_have_text("1–20 of 10000")
        expect(rows).to_have_count(20)
        assert page.locator("#events *").count() < 1000
        press(page.get_by_role("button", name="Next"))
        expect(count).to_have_text("21–40 of 10000")
        expect(page.get_by_role("button", name="Next")).to_be_focused()
        page.get_by_label("Search events").fill("number 0999")
        expect(count).to_have_text("1–10 of 10")
        page.get_by_label("Search events").fill("no such text")
        expect(page.locator("#events .empty")).to_have_text("No events fit.")
        page.get_by_label("Search events").fill("")
        expect(count).to_have_text("1–20 of 10000")
        header = page.locator("#events th", has_text="Time")
        assert header.get_attribute("aria-sort") == "descending"
        press(header.get_by_role("button"))
        expect(header).to_have_attribute("aria-sort", "ascending")
        expect(rows.first).to_contain_text("number 00000")

    browser.run(steps)


def test_what_changes_is_shown_at_once_and_keeps_the_place_of_the_keyboard(
    cloud: Host, browser: Chromium
) -> None:
    first, second, third = (
        f"{name}-{type(browser).__name__}".lower() for name in ("first", "second", "third")
    )
    [research] = cloud.call("listDomains", name="research")["domain"]

    def steps(page: Page) -> None:
        page.add_init_script(COUNT)
        page.clock.install()
        log_in(page, cloud, "dora", "research")
        open_section(page, "Accounts")
        add_account(cloud, first, domainid=research["id"])
        row = page.locator("#accounts .row", has_text=first)
        disable = row.get_by_role("button", name="Disable")
        disable.focus()
        add_account(cloud, second, domainid=research["id"])
        expect(page.locator("#accounts .row", has_text=second)).to_be_visible()
        expect(disable).to_be_focused()
        page.evaluate("window.asked = window.told = 0")
        page.clock.run_for(AN_HOUR_MS)  # a page that polls would ask hundreds of times
        add_account(cloud, third, domainid=research["id"])
        expect(page.locator("#accounts .row", has_text=third)).to_be_visible()
        asked, told = page.evaluate("[window.asked, window.told]")
        assert 1 <= asked <= told + 1, "a call for each change, and one for a change before the counting"

    browser.run(steps)


def test_an_administrator_changes_and_resets_a_setting(cloud: Host, browser: Chromium) -> None:
    def steps(page: Page) -> None:
        sign_in(page, cloud, "alma")
        open_section(page, "Settings")
        page.get_by_label("Search settings").fill("consoleproxy.session.max")
        name = "consoleproxy.session.max"
        row = page.locator("#settings .row").filter(has=page.get_by_text(name, exact=True))
        press(row.get_by_role("button", name="Edit…"))
        dialog = page.locator("#fields")
        dialog.get_by_label("Value").fill("-1")
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("must be a whole number")
        dialog.get_by_label("Value").fill("7")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        expect(row.locator("code")).to_contain_text("7")
        [changed] = cloud.call("listConfigurations", name=name)["configuration"]
        assert changed["value"] == "7"
        press(row.get_by_role("button", name="Reset"))
        press(page.locator("#confirm button.danger"))
        expect(row.get_by_role("button", name="Reset")).to_have_count(0)

    browser.run(steps)
