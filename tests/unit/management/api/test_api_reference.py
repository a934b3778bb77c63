# SPDX-License-Identifier: Apache-2.0
"""docs/reference/api is what the table of commands says: it leaves nothing out, and is up to date."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from small_cloud import SmallCloud
from systemvm.management.api.command import Command
from systemvm.management.api.discovery import describe_fields

TOP = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_reference", TOP / "docs" / "generate_api_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(pages: dict[str, str], page: str, title: str) -> str:
    """Return what is below a heading of a page."""
    heading = f"\n## {title}\n"
    assert pages[page].count(heading) == 1, (page, title)
    return pages[page].partition(heading)[2].partition("\n## ")[0]


def section_of(pages: dict[str, str], command: Command) -> str:
    """Return the section of a command, of the page that the index names."""
    [page] = re.findall(rf"\[{command.name}\]\(([\w.-]+)#{command.name.lower()}\)", pages["README.md"])
    return section(pages, page, command.name)


def test_the_pages_are_up_to_date(cloud: SmallCloud, generator: ModuleType) -> None:
    kept = {path.name: path.read_text() for path in generator.OUTPUT.iterdir()}
    made = generator.render(cloud.table)
    assert kept.keys() == made.keys(), 'run "make api-reference"'
    old = [name for name, text in made.items() if kept[name] != text]
    assert not old, 'run "make api-reference"'


def test_every_page_is_in_the_index_beside_the_facts_of_cloudstack(generator: ModuleType) -> None:
    index = (generator.OUTPUT.parent / "api.md").read_text()
    missing = [path.name for path in generator.OUTPUT.iterdir() if f"](api/{path.name})" not in index]
    assert not missing, "name the pages in docs/reference/api.md, 5.4"


def test_a_forge_shows_the_pages(generator: ModuleType) -> None:
    sizes = {path.name: path.stat().st_size for path in generator.OUTPUT.iterdir()}
    assert max(sizes.values()) < 40_000
    assert sum(sizes.values()) < 250_000


def test_every_command_has_its_parameters_its_answer_and_its_callers(
    cloud: SmallCloud, generator: ModuleType
) -> None:
    pages = generator.render(cloud.table)
    groups = pages["README.md"]
    for command in cloud.table:
        text = section_of(pages, command)
        assert command.description in text, command.name
        for one in command.all_parameters:
            kind = f"{one.type.value}, required" if one.required else one.type.value
            row = f"| `{one.name}` | {kind} | {one.description}"
            assert row in text or (f"`{one.name}`" in text and row in groups), (command.name, one.name)
        [(page, anchor)] = re.findall(r"answers: [a-z ,]+ \[[\w ]+\]\(([\w.-]*)#([\w-]+)\)", text)
        title = anchor.replace("-", " ").capitalize()
        shown = section(pages, page or f"{generator.page_of(command.name)}.md", title)
        for field in describe_fields(command.answer):
            assert f"| `{field.name}` | {field.type}" in shown, (command.name, field.name)


def test_every_link_leads_to_a_heading(cloud: SmallCloud, generator: ModuleType) -> None:
    pages = generator.render(cloud.table)
    anchors = {
        name: {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)}
        for name, text in pages.items()
    }
    for name, text in pages.items():
        for page, anchor in re.findall(r"\]\(([\w.-]*)#([\w-]+)\)", text):
            assert anchor in anchors[page or name], (name, page, anchor)


def test_who_can_call_and_which_values_are_taken_is_shown(cloud: SmallCloud, generator: ModuleType) -> None:
    pages = generator.render(cloud.table)

    def shown(name: str) -> str:
        return section_of(pages, cloud.table.find(name))

    assert "For root administrators; answers: keys of [success](objects.md#" in shown("resetApiLimit")
    assert "For administrators; " in shown("createUser")
    assert "For everyone; answers: object [" in shown("getApiLimit")
    assert "answers: job, then [virtual machine](#virtual-machine-object)" in shown("deployVirtualMachine")
    assert "`selfexecutable`" in shown("listTemplates")
    assert "; only `usage`" in shown("listCapacity")
    assert "| `tags` | list of [tag](objects.md#tag-object) |" in pages["volumes.md"]


def test_a_command_of_no_resource_is_refused(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match="frobnicate is on no page"):
        generator.page_of("frobnicate")


def test_every_code_of_an_error_is_explained(cloud: SmallCloud, generator: ModuleType) -> None:
    index = generator.render(cloud.table)["README.md"]
    assert "| 429 | the account has sent too many calls" in index
    assert "| 432 | there is no such command" in index
