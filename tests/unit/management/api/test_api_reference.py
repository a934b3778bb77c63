# SPDX-License-Identifier: Apache-2.0
"""The reference of the API is made of the table of commands: it leaves nothing out."""

from __future__ import annotations

import importlib.util
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


def section(pages: dict[str, str], command: Command) -> str:
    """Return the section of a command, of the page that the index names."""
    [row] = [line for line in pages["README.md"].splitlines() if line.startswith(f"| [{command.name}](")]
    page = row.partition("](")[2].partition("#")[0]
    text = pages[page].partition(f"## {command.name}\n")[2]
    return text.partition("\n## ")[0]


def test_every_command_has_its_parameters_its_answer_and_its_callers(
    cloud: SmallCloud, generator: ModuleType
) -> None:
    pages = generator.render(cloud.table)
    for command in cloud.table:
        text = section(pages, command)
        assert command.description in text, command.name
        for parameter in command.all_parameters:
            assert f"| `{parameter.name}` | {parameter.type.value} |" in text, (command.name, parameter.name)
        for field in describe_fields(command.answer):
            assert f"| `{field.name}` | {field.type} |" in text, (command.name, field.name)


def test_who_can_call_and_which_values_are_taken_is_shown(cloud: SmallCloud, generator: ModuleType) -> None:
    pages = generator.render(cloud.table)
    assert "- who: root administrators" in section(pages, cloud.table.find("resetApiLimit"))
    assert "- who: everyone" in section(pages, cloud.table.find("getApiLimit"))
    assert "- answer: job" in section(pages, cloud.table.find("deployVirtualMachine"))
    assert "`selfexecutable`" in section(pages, cloud.table.find("listTemplates"))
    assert "; only `usage`" in section(pages, cloud.table.find("listCapacity"))


def test_every_code_of_an_error_is_explained(cloud: SmallCloud, generator: ModuleType) -> None:
    index = generator.render(cloud.table)["README.md"]
    assert "| 429 | the account has sent too many calls" in index
    assert "| 432 | there is no such command" in index
