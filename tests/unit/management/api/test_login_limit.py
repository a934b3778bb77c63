# SPDX-License-Identifier: Apache-2.0
"""Password guessing is limited, and does not lock a user out of trusted sources."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from in_memory_http import HttpAnswer, request
from settling import settled
from small_cloud import SmallCloud
from small_cloud.rows import ADMIN_PASSWORD, API_KEY, SECRET_KEY, USER_PASSWORD
from systemvm.management.api.errors import ApiError
from systemvm.management.api.hash_limiter import MAX_RUNNING, MAX_WAITING, MAX_WAITING_OF_SOURCE, HashLimiter
from systemvm.management.api.login_limit import MAX_DELAY_S, MAX_TRACKED, Attempt, LoginLimit
from systemvm.management.api.signature import sign
from systemvm.management.api.site import ManagementSite
from systemvm.management.state import login_sources, schema
from systemvm.management.state.columns import now

OFFICE = "192.0.2.7"


class Api:
    def __init__(self, cloud: SmallCloud) -> None:
        self.site = ManagementSite(cloud.client())

    async def login(self, address: str, password: str, user: str = "admin", domain: str = "/") -> HttpAnswer:
        form = {"command": "login", "response": "json", "username": user, "password": password}
        return await request(self.site, "POST", "/api", form | {"domain": domain}, None, address)


async def finish(cloud: SmallCloud, awaitable: Coroutine[Any, Any, Any]) -> Any:
    """Advance the cloud's clock until `awaitable` has its result."""
    result: Deferred[Any] = Deferred.fromCoroutine(awaitable)
    while not result.called:
        cloud.clock.advance(0.5)
        await settled(cloud.database)
    return await result


@pytest_twisted.ensureDeferred
async def test_guesses_from_other_addresses_do_not_lock_out_trusted_sources(cloud: SmallCloud) -> None:
    """Attack: wrong passwords for the administrator, each from another address."""
    api = Api(cloud)
    assert (await api.login(OFFICE, ADMIN_PASSWORD)).status == 200
    statuses = {(await api.login(f"198.51.100.{number}", "wrong")).status for number in range(40)}
    assert statuses == {531, 429}, "guesses are limited nevertheless"
    assert (await api.login(OFFICE, ADMIN_PASSWORD)).status == 200
    assert (await api.login(OFFICE, ADMIN_PASSWORD, domain="/ROOT")).status == 200


@pytest_twisted.ensureDeferred
async def test_trusted_source_is_delayed_and_never_rejected(
    cloud: SmallCloud,
) -> None:
    api = Api(cloud)
    await api.login(OFFICE, ADMIN_PASSWORD)
    for _ in range(12):
        assert (await finish(cloud, api.login(OFFICE, "wrong"))).status == 531
    begun = cloud.clock.seconds()
    assert (await finish(cloud, api.login(OFFICE, ADMIN_PASSWORD))).status == 200
    assert 1 <= cloud.clock.seconds() - begun <= MAX_DELAY_S + 1


@pytest_twisted.ensureDeferred
async def test_login_makes_its_source_trusted_for_that_account_only(cloud: SmallCloud) -> None:
    api = Api(cloud)
    await api.login(OFFICE, USER_PASSWORD, "ulla")
    for number in range(6):
        await api.login(f"198.51.100.{number}", "wrong")
    assert (await api.login(OFFICE, ADMIN_PASSWORD)).status == 429
    assert (await api.login(OFFICE, USER_PASSWORD, "ulla")).status == 200


@pytest_twisted.ensureDeferred
async def test_ipv6_network_is_one_source(cloud: SmallCloud) -> None:
    api = Api(cloud)
    assert (await api.login("2001:db8:0:1::a", ADMIN_PASSWORD)).status == 200
    for number in range(6):
        await api.login(f"2001:db8:0:2::{number}", "wrong", "ulla")
    assert (await api.login("2001:db8:0:2::99", USER_PASSWORD, "ulla")).status == 429
    for number in range(8):
        await api.login(f"198.51.100.{number}", "wrong")
    assert (await api.login("2001:db8:0:1::b", ADMIN_PASSWORD)).status == 200


@pytest_twisted.ensureDeferred
async def test_trusted_sources_survive_a_restart(cloud: SmallCloud) -> None:
    await Api(cloud).login(OFFICE, ADMIN_PASSWORD)
    api = Api(cloud)
    for number in range(10):
        await api.login(f"198.51.100.{number}", "wrong")
    assert (await api.login(OFFICE, ADMIN_PASSWORD)).status == 200


@pytest_twisted.ensureDeferred
async def test_api_keys_and_the_hosts_socket_are_never_locked_out(cloud: SmallCloud) -> None:
    api = Api(cloud)
    for _ in range(10):
        await api.login(OFFICE, "wrong")
    assert (await api.login(OFFICE, ADMIN_PASSWORD)).status == 429
    parameters = {"command": "listZones", "response": "json", "apiKey": API_KEY}
    signed = parameters | {"signature": sign(parameters, SECRET_KEY)}
    assert (await request(api.site, "POST", "/api", signed, None, OFFICE)).status == 200
    assert (await cloud.call("listZones"))["count"] == 1, "the host's socket calls it without a login"


# --- trusted sources


def test_oldest_sources_of_a_user_are_deleted_beyond_the_limit(cloud: SmallCloud) -> None:
    user = cloud.admin.user.id
    for number in range(login_sources.MAX_SOURCES_OF_USER + 2):
        cloud.database.run_now(login_sources.remember, user, f"s{number}")
    cloud.database.run_now(login_sources.remember, cloud.user.user.id, "other")

    def known(source: str) -> bool:
        return cloud.database.run_now(login_sources.is_known, user, source)

    assert [known(f"s{number}") for number in range(4)] == [False, False, True, True]
    assert cloud.database.run_now(login_sources.is_known, cloud.user.user.id, "other")
    cloud.database.run_now(login_sources.forget, user)
    assert not known("s3")


def test_trusted_source_expires(cloud: SmallCloud) -> None:
    user = cloud.admin.user.id
    cloud.database.run_now(login_sources.remember, user, OFFICE)
    long_ago = now() - login_sources.REMEMBERED_FOR - timedelta(seconds=1)
    cloud.database.run_now(
        lambda connection: connection.execute(schema.login_sources.update().values(last_login=long_ago))
    )
    assert not cloud.database.run_now(login_sources.is_known, user, OFFICE)


# --- the rate


def limit() -> tuple[LoginLimit, Clock]:
    clock = Clock()
    return LoginLimit(clock.seconds), clock


def test_successful_login_removes_only_its_own_attempt() -> None:
    limited, _ = limit()
    for account in ("victim",) * 4 + ("own",):
        limited.admit(Attempt("a", account))
    limited.succeeded(Attempt("a", "own"))
    limited.admit(Attempt("a", "victim"))
    with pytest.raises(ApiError):
        limited.admit(Attempt("a", "own"))


def test_attempts_expire_one_by_one() -> None:
    limited, clock = limit()
    for _ in range(5):
        limited.admit(Attempt("a", "u"))
    with pytest.raises(ApiError) as refused:
        limited.admit(Attempt("a", "u"))
    assert refused.value.retry_after_s == pytest.approx(12)
    clock.advance(12)
    limited.admit(Attempt("a", "u"))
    with pytest.raises(ApiError):
        limited.admit(Attempt("a", "u"))


def test_memory_of_attempts_is_bounded() -> None:
    limited, _ = limit()
    for number in range(MAX_TRACKED):
        limited.admit(Attempt(f"address {number}", f"user {number}"))
    assert len(limited._attempts) == MAX_TRACKED


# --- hashing


class FakeThreads:
    """A thread pool whose work ends when the test ends it."""

    def __init__(self) -> None:
        self.running: list[tuple[str, Deferred[str]]] = []
        self.most = 0

    def __call__(self, function: Any, name: str) -> Deferred[str]:
        done: Deferred[str] = Deferred()
        self.running.append((name, done))
        self.most = max(self.most, len(self.running))
        return done

    def end_one(self) -> str:
        name, done = self.running.pop(0)
        done.callback(name)
        return name

    def end_all(self) -> None:
        """End all work, because a coroutine that still waits fails when it is collected."""
        while self.running:
            self.end_one()


def start(gate: HashLimiter, source: str, name: str, *, trusted: bool = False) -> Deferred[str]:
    return Deferred.fromCoroutine(gate.run(source, trusted, str, name))


def test_concurrent_hashes_are_bounded_and_fair_among_sources() -> None:
    threads = FakeThreads()
    gate = HashLimiter(threads)
    for number in range(6):
        start(gate, "a", f"a{number}")
    start(gate, "b", "b0")
    start(gate, "c", "c0", trusted=True)
    order = [threads.end_one() for _ in range(8)]
    assert order == ["a0", "a1", "c0", "a2", "b0", "a3", "a4", "a5"]
    assert threads.most == MAX_RUNNING


def test_waiting_passwords_are_bounded_by_source_and_in_total() -> None:
    threads = FakeThreads()
    gate = HashLimiter(threads)
    logins = [start(gate, f"s{number % 20}", f"{number}") for number in range(500)]
    refused = [login for login in logins if login.called]
    assert len(logins) - len(refused) == MAX_RUNNING + MAX_WAITING
    for login in refused:
        failure: Any = login.addErrback(lambda failure: failure.value).result
        assert failure.code == 503
        assert failure.retry_after_s == 1.0
    crowd = [start(gate, "one", f"{number}") for number in range(20)]
    assert sum(not login.called for login in crowd) < MAX_WAITING_OF_SOURCE
    for login in [*logins, *crowd]:
        login.addErrback(lambda failure: failure.trap(ApiError))
    newcomer = start(gate, "newcomer", "newcomer")
    trusted = start(gate, "known", "known", trusted=True)
    assert not newcomer.called and not trusted.called
    ended = [threads.end_one() for _ in range(MAX_RUNNING + 1)]
    assert ended[-1] == "known", "a trusted source precedes unknown ones"
    threads.end_all()


def test_failed_hash_releases_its_place() -> None:
    threads = FakeThreads()
    gate = HashLimiter(threads)
    logins = [start(gate, "a", f"{number}") for number in range(3)]
    for number in range(3):
        threads.running.pop(0)[1].errback(RuntimeError())
        assert logins[number].addErrback(lambda failure: failure.trap(RuntimeError)).called
    assert not start(gate, "a", "again").called
    assert threads.end_one() == "again"
