#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Take the pictures of the page in docs/screenshots: `make screenshots`.

The page is the real one; docs/screenshots/answers.yaml has what the daemon would answer, so that the pictures
need no cloud and change only with the page.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypedDict

import yaml
from PIL import Image

TOP = Path(__file__).resolve().parents[1]
OUTPUT = TOP / "docs" / "screenshots"


class Size(TypedDict):
    """Of a window, in pixels."""

    width: int
    height: int


WIDE, TALL = Size(width=1280, height=720), Size(width=1280, height=900)
PHONE = Size(width=390, height=844)
COLOURS = 256
FILTERS = ("state", "physicalnetworkid")  # of lists: parameters that the picture of the zone counts by

#: File, section (of several parts: `/` and the part), and how it is shown.
PICTURES: tuple[tuple[str, str, Size, Literal["light", "dark"]], ...] = (
    ("page", "templates", WIDE, "light"),
    ("page-zone", "zone", TALL, "light"),
    ("page-zone-dark", "zone", TALL, "dark"),
    ("page-infrastructure", "infrastructure/ip-ranges", WIDE, "light"),
    ("page-machines", "vms", WIDE, "light"),
    ("page-volumes", "volumes", WIDE, "light"),
    ("page-snapshots", "snapshots", WIDE, "light"),
    ("page-networks", "networks", WIDE, "light"),
    ("page-offerings", "offerings", WIDE, "light"),
    ("page-details", "volumes", WIDE, "light"),
    ("page-pools", "pools", WIDE, "light"),
    ("page-accounts", "accounts", WIDE, "light"),
    ("page-users", "users", WIDE, "light"),
    ("page-limits", "limits", WIDE, "light"),
    ("page-usage", "usage", WIDE, "light"),
    ("page-settings", "settings", WIDE, "light"),
    ("page-events", "events", WIDE, "light"),
    ("page-alerts", "alerts", WIDE, "light"),
    ("page-alerts-dark", "alerts", WIDE, "dark"),
    ("page-phone", "vms", PHONE, "light"),
)


def answers() -> dict[str, Any]:
    """Return what the daemon would answer, by command; everything that the page knows is permitted."""
    lists = yaml.safe_load((OUTPUT / "answers.yaml").read_text())
    static = files("systemvm.management.page").joinpath("static")
    texts = [each.read_text() for each in static.iterdir() if each.name.endswith((".js", ".html"))]
    commands = {name for text in texts for name in re.findall(r'"([a-z0-9]+[A-Z]\w+)"', text)}
    commands |= {
        f"{verb}{kind}{more}"
        for verb in ("copy", "extract", "update", "delete", "retry")
        for kind in ("Template", "Iso")
        for more in ("", "Permissions")
    }
    commands.discard("createConsoleThumbnail")  # a picture of a guest's screen needs a guest
    return {
        "listApis": {"api": [{"name": name} for name in sorted(commands)]},
        **{command: _answer(*key_and_rows) for command, of in lists.items() for key_and_rows in of.items()},
    }


def _answer(key: str, rows: list[dict[str, Any]]) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    def answer(call: Mapping[str, str]) -> dict[str, Any]:
        given = {name: call[name] for name in FILTERS if name in call}
        found = [row for row in rows if all(row.get(name) == value for name, value in given.items())]
        return {key: found, "count": len(found)}

    return answer


def save(name: str, png: bytes) -> None:
    """Write a picture with few colours, which are enough for text and badges, and a third of the size."""
    small = (
        Image.open(io.BytesIO(png))
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, 3, dither=Image.Dither.NONE)
    )
    small.save(OUTPUT / f"{name}.png", optimize=True)


def take(wanted: set[str]) -> None:
    from playwright.sync_api import Page, expect

    from integration.cpvm_lab.chromium import Chromium
    from integration.page_modules import StubbedPage

    def steps(page: Page) -> None:
        stub = StubbedPage(page, **answers())
        stub.user = {"type": "1", "userid": "id of admin", "account": "admin", "domainid": "ROOT"}
        stub.log_in("admin")
        for name, section, size, scheme in PICTURES:
            if wanted and name not in wanted:
                continue
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if section == "limits":
                page.goto("https://cloud.example.test/#/accounts")
                page.locator("#accounts .row", has_text="ada").get_by_role("button", name="Limits").click()
            page.evaluate("section => { location.hash = `#/${section}`; }", section)
            shown = page.locator(f"[data-section={section.partition('/')[0]}]")
            expect(shown.locator(".row, .card, svg").first).to_be_visible()
            if name == "page-details":
                page.get_by_role("button", name="records", exact=True).click()
                expect(page.locator("#details")).to_be_visible()
            page.evaluate("document.activeElement?.blur()")
            save(name, page.screenshot())
            page.keyboard.press("Escape")

    chromium = Chromium()
    try:
        chromium.run(steps)
    finally:
        chromium.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Take the pictures of the page in docs/screenshots.")
    parser.add_argument("name", nargs="*", help="only these, for example page-zone")
    sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]
    take({*parser.parse_args().name})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
