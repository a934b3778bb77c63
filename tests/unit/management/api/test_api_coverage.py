# SPDX-License-Identifier: Apache-2.0
"""docs/reference/api-coverage.md is true: what CloudStack has is served, or refused by its name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import pytest_twisted

from api_requests import NOWHERE
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.parameters import Parameter

TOP = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("coverage_page", TOP / "docs" / "generate_api_coverage.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def a_value_for(parameter: Parameter) -> str:
    return parameter.choices[0] if parameter.choices else NOWHERE


def test_the_page_is_up_to_date(cloud: SmallCloud, generator: ModuleType) -> None:
    assert generator.OUTPUT.read_text() == generator.render(generator.parameters_of(cloud.table)), (
        'run "make api-coverage"'
    )


@pytest_twisted.ensureDeferred
async def test_cloudstacks_parameters_are_served_or_refused_by_name(
    cloud: SmallCloud, generator: ModuleType
) -> None:
    refused = 0
    for theirs in generator.cloudstack_commands():
        if theirs.name not in cloud.table:
            continue
        command = cloud.table.find(theirs.name)
        needed = {one.name: a_value_for(one) for one in command.parameters if one.required}
        declared = {one.name for one in command.all_parameters}
        for name in set(theirs.parameters) - declared:
            with pytest.raises(ApiError) as error:
                await cloud.call(theirs.name, **needed, **{name: "1"})
            assert error.value.code is ErrorCode.PARAMETER, (theirs.name, name)
            assert name in error.value.message, (theirs.name, name)
            refused += 1
    assert refused > 50


@pytest_twisted.ensureDeferred
async def test_commands_that_are_not_here_are_refused(cloud: SmallCloud, generator: ModuleType) -> None:
    missing = [theirs.name for theirs in generator.cloudstack_commands() if theirs.name not in cloud.table]
    for name in missing:
        with pytest.raises(ApiError) as error:
            await cloud.call(name)
        assert error.value.code is ErrorCode.UNSUPPORTED, name
        assert name in error.value.message
