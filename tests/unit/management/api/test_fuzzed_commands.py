# SPDX-License-Identifier: Apache-2.0
"""Every command with every parameter absent, empty, huge, of the wrong type, or another account's object.

Each call has a typed error or an answer, never 530; a user neither reads nor changes what is a stranger's.
`make check` tries every third command, and `make test` all of them by API_FUZZ_EACH=1.
API_FUZZ_SECONDS, which `make fuzz` sets, adds calls with several such parameters for so long.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from api_client import Browser
from fuzz.api_calls import (
    Call,
    calls_with_foreign_objects,
    is_destructive,
    mixed_call,
    plain_call,
    sample,
)
from fuzz.api_fuzzer import ApiFuzzer
from fuzz.api_world import FuzzedCloud, populate
from small_cloud import SmallCloud, make
from small_cloud.rows import ADMIN_PASSWORD
from systemvm.management.api import operators
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.command import Command
from systemvm.management.api.principal import Principal
from systemvm.rpc.core.errors import INTERNAL, RpcError
from systemvm.rpc.core.method import Call as RpcCall
from systemvm.rpc.core.method import Caller, MethodTable
from user_accounts import PASSWORD

EACH = int(os.environ.get("API_FUZZ_EACH", "3"))
LONGER_S = float(os.environ.get("API_FUZZ_SECONDS", "0"))
MIXED_PER_ROUND = 10
PARTS = 3  # of an administrator's commands, so that they are tried side by side
SESSIONS = ("login", "logout")
DOMAIN_ADMIN = "domain administrator"

NewCloud = Callable[[], SmallCloud]


@pytest.fixture
def new_cloud(tmp_path: Path, pristine: Path) -> Iterator[NewCloud]:
    made: list[SmallCloud] = []

    def new() -> SmallCloud:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(make(directory, pristine))
        return made[-1]

    yield new
    for cloud in made:
        cloud.jobs.stop()
        cloud.database.close()


async def fuzzer_of(world: FuzzedCloud, role: str) -> tuple[ApiFuzzer, Principal]:
    browser = Browser(world.cloud)
    is_admin = role == "administrator"
    who = world.cloud.admin if is_admin else world.user
    password = ADMIN_PASSWORD if is_admin else PASSWORD
    answer = await browser.login(who.user.username, password, who.domain.path)
    assert answer.status == 200
    return ApiFuzzer(world, browser, sees_all=is_admin), who


def commands_of(cloud: SmallCloud, who: Principal, chance: random.Random) -> list[Command]:
    """Return what a caller can use, in some order, what takes objects away last."""
    found = [each for each in cloud.table if each.name not in SESSIONS and who.account_type in each.roles]
    chance.shuffle(found)
    return sorted(found, key=is_destructive)


def sample_of(command: Command, world: FuzzedCloud, *, sees_all: bool) -> Iterable[Call]:
    yield from sample(command, world, random.Random(command.name))
    if not sees_all:
        yield from calls_with_foreign_objects(command, world)


@pytest.mark.parametrize(
    ("role", "part"),
    [("user", 0), (DOMAIN_ADMIN, 0), *(("administrator", part) for part in range(PARTS))],
)
@pytest_twisted.ensureDeferred
async def test_a_call_is_answered_or_refused_by_a_typed_error(
    new_cloud: NewCloud, role: str, part: int
) -> None:
    world = await populate(new_cloud(), is_domain_admin=role == DOMAIN_ADMIN)
    fuzzer, who = await fuzzer_of(world, role)
    commands = commands_of(world.cloud, who, random.Random(1))[::EACH]
    for command in commands[part::PARTS] if role == "administrator" else commands:
        await fuzzer.send(command, sample_of(command, world, sees_all=fuzzer.sees_all))
    fuzzer.check_jobs_of(who.account.id)
    assert fuzzer.count > 1000 / EACH
    assert not fuzzer.faults, "\n".join(fuzzer.faults[:40])


@pytest.mark.parametrize("name", SESSIONS)
@pytest_twisted.ensureDeferred
async def test_a_session_is_opened_and_ended_or_refused_by_a_typed_error(
    new_cloud: NewCloud, name: str
) -> None:
    world = await populate(new_cloud())
    fuzzer, _ = await fuzzer_of(world, "user")
    world.cloud.clock.pump([3600.0])
    await fuzzer.send(
        world.cloud.table.find(name), sample_of(world.cloud.table.find(name), world, sees_all=False)
    )
    assert not fuzzer.faults, "\n".join(fuzzer.faults[:40])


@pytest.mark.skipif(not LONGER_S, reason="only `make fuzz` sets API_FUZZ_SECONDS")
@pytest.mark.parametrize("role", ["user", DOMAIN_ADMIN, "administrator"])
@pytest_twisted.ensureDeferred
async def test_calls_with_several_such_parameters(new_cloud: NewCloud, role: str) -> None:
    until = time.monotonic() + LONGER_S
    while time.monotonic() < until:
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        world = await populate(new_cloud(), is_domain_admin=role == DOMAIN_ADMIN)
        fuzzer, who = await fuzzer_of(world, role)
        for command in commands_of(world.cloud, who, chance):
            if time.monotonic() < until:
                mixed = [mixed_call(command, world, chance) for _ in range(MIXED_PER_ROUND)]
                await fuzzer.send(command, mixed)
        fuzzer.check_jobs_of(who.account.id)
        assert not fuzzer.faults, f"seed {seed}:\n" + "\n".join(fuzzer.faults[:40])


#: What JSON can have and a query cannot.
TYPED: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, 1e308, [], [None], [[]], [{}], {}, {"key": None}, {"a": {"b": []}},
    [{"key": "a"}, {"key": "a"}], ["x"] * 2000,
)  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_json_values_of_operators_are_checked_as_text_is(new_cloud: NewCloud) -> None:
    world = await populate(new_cloud())
    methods = MethodTable("operators", "1")
    operators.add_methods(methods, world.cloud.table, Authenticator(world.cloud.database, world.cloud.seal))
    call = RpcCall(Caller("uid:0", "operator"), "request-1", None)
    broken = []
    for command in commands_of(world.cloud, world.cloud.admin, random.Random(2)):
        plain, chance = plain_call(command, world), random.Random(command.name)
        for parameter in command.all_parameters:
            value = chance.choice(TYPED)
            try:
                await methods.dispatch(call, command.name, plain | {parameter.name: value})
            except RpcError as error:
                if error.code == INTERNAL:
                    broken.append(f"{command.name} {parameter.name}={str(value)[:60]}")
    assert not broken, "\n".join(broken)
