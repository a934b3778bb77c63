# SPDX-License-Identifier: Apache-2.0
"""A token is spent once, before it expires, by its CPVM and for its machine; all else is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import ILogObserver, globalLogPublisher

from console_tokens import add_vm, authorize, change_session, new_token, refusal, target
from small_cloud import SmallCloud
from systemvm.management.state import console_sessions, events, instances
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.rpc.core.errors import FORBIDDEN, INVALID_PARAMS, RpcError
from systemvm.wire import console
from systemvm.wire.console import UNRESTRICTED, ConsolePolicy, ConsoleRefusal


@pytest_twisted.ensureDeferred
async def test_token_opens_the_session_of_its_machine(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    assert (session.virtual_machine_id, session.display_name) == (vm.uuid, "one")
    assert session.lifetime_s > 60
    row = cloud.database.run_now(console_sessions.by_uuid, session.session_id)
    assert row.client_address == "198.51.100.9"
    assert row.acquired is not None


@pytest_twisted.ensureDeferred
async def test_a_session_has_the_policy_of_its_link(cloud: SmallCloud, vm: Instance) -> None:
    assert (await authorize(cloud, await new_token(cloud, vm))).policy == UNRESTRICTED
    token = await new_token(cloud, vm)
    change_session(cloud, token, view_only=True, clipboard_from_guest=False)
    assert (await authorize(cloud, token)).policy == ConsolePolicy(True, True, False)


@pytest_twisted.ensureDeferred
async def test_target_names_the_ca_of_a_screen_with_tls(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    assert (await target(cloud, session.session_id)).vencrypt is None, "its record has no CA: it has no TLS"
    cloud.database.run_now(instances.update, vm.id, vnc_ca_pem="CA")
    found = await target(cloud, session.session_id)
    assert found.vencrypt == console.TargetTls("CA", f"{vm.uuid}.screen.systemvm")
    assert found.transport is console.TargetTransport.TCP


@pytest_twisted.ensureDeferred
async def test_a_client_that_connects_at_once_gets_the_screen_with_its_session(
    cloud: SmallCloud, vm: Instance
) -> None:
    assert (await authorize(cloud, await new_token(cloud, vm))).target is None
    session = await authorize(cloud, await new_token(cloud, vm), with_target=True)
    assert session.target == await target(cloud, session.session_id)
    assert session.target is not None and session.target.password == f"pw-{session.target.port}"
    assert "pw-" not in repr(session)
    kinds = [event.type for event in cloud.database.run_now(events.newest, 100)]
    assert kinds.count("CONSOLE.SCREEN") == 2, "an answer with the screen is recorded as `console.target` is"


@pytest_twisted.ensureDeferred
async def test_a_token_is_spent_once(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    await authorize(cloud, token)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_USED


@pytest_twisted.ensureDeferred
async def test_only_one_of_concurrent_callers_spends_a_token(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    racing = [Deferred.fromCoroutine(authorize(cloud, token)) for _ in range(20)]
    results: list[tuple[bool, Any]] = await DeferredList(racing, consumeErrors=True)
    assert sum(succeeded for succeeded, _ in results) == 1
    reasons = {failure.value.reason for succeeded, failure in results if not succeeded}
    assert reasons == {"token_used"}


@pytest_twisted.ensureDeferred
async def test_replaced_token_is_refused_as_replaced(cloud: SmallCloud, vm: Instance) -> None:
    first, second = await new_token(cloud, vm), await new_token(cloud, vm)
    assert await refusal(authorize(cloud, first)) is ConsoleRefusal.TOKEN_REPLACED
    assert (await authorize(cloud, second)).virtual_machine_id == vm.uuid


@pytest_twisted.ensureDeferred
async def test_expired_token_is_refused(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    change_session(cloud, token, token_expires=now() - timedelta(seconds=1))
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_EXPIRED


@pytest_twisted.ensureDeferred
async def test_expired_token_stays_refused_after_cleanup(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    change_session(cloud, token, token_expires=now() - timedelta(seconds=1))
    cloud.database.run_now(console_sessions.expire)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_EXPIRED


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("token", ["", "x", "A" * 43, "' OR 1=1 --", "ü" * 100])
async def test_unknown_token_is_refused(cloud: SmallCloud, vm: Instance, token: str) -> None:
    await new_token(cloud, vm)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_UNKNOWN


@pytest_twisted.ensureDeferred
async def test_other_cpvm_cannot_examine_or_spend_a_token(
    cloud: SmallCloud, vm: Instance, other_proxy: Instance
) -> None:
    token = await new_token(cloud, vm)
    assert await refusal(authorize(cloud, token, other_proxy)) is ConsoleRefusal.TOKEN_UNKNOWN
    assert (await authorize(cloud, token)).virtual_machine_id == vm.uuid
    assert await refusal(authorize(cloud, token, other_proxy)) is ConsoleRefusal.TOKEN_UNKNOWN


@pytest_twisted.ensureDeferred
async def test_stopped_machine_spends_no_token(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    cloud.update_instance(vm, state=InstanceState.STOPPING)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.MACHINE_STOPPING
    cloud.update_instance(vm, state=InstanceState.RUNNING)
    assert (await authorize(cloud, token)).virtual_machine_id == vm.uuid


@pytest_twisted.ensureDeferred
async def test_a_token_of_a_destroyed_machine_is_refused(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    cloud.database.run_now(instances.remove, vm.id, InstanceState.EXPUNGING)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.MACHINE_GONE


@pytest_twisted.ensureDeferred
async def test_each_token_opens_its_own_machine(cloud: SmallCloud, vm: Instance) -> None:
    other = add_vm(cloud, "two", 5902)
    first, second = await new_token(cloud, vm), await new_token(cloud, other)
    one, two = await authorize(cloud, first), await authorize(cloud, second)
    assert ((await target(cloud, one.session_id)).port, (await target(cloud, two.session_id)).port) == (
        5901,
        5902,
    )


@pytest_twisted.ensureDeferred
async def test_a_link_of_another_address_is_refused_where_the_zone_asks_for_it(
    cloud: SmallCloud, vm: Instance
) -> None:
    await cloud.call("updateConfiguration", name="novnc.console.sourceip.check.enabled", value="true")
    token = await new_token(cloud, vm)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.OTHER_SOURCE
    change_session(cloud, token, creator_address="not an address")
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.OTHER_SOURCE
    change_session(cloud, token, creator_address="::ffff:198.51.100.9")
    assert await authorize(cloud, token), "the refusals spent nothing"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("presented", ["", "wrong", "secret "])
async def test_a_wrong_additional_secret_voids_the_link(
    cloud: SmallCloud, vm: Instance, presented: str
) -> None:
    token = await new_token(cloud, vm, token="secret")
    assert await refusal(authorize(cloud, token, extra=presented)) is ConsoleRefusal.EXTRA_REFUSED
    assert await refusal(authorize(cloud, token, extra="secret")) is ConsoleRefusal.EXTRA_REFUSED
    token = await new_token(cloud, vm, token="secret")
    assert await authorize(cloud, token, extra="secret")


@pytest_twisted.ensureDeferred
async def test_a_session_lasts_as_long_as_the_zone_says(cloud: SmallCloud, vm: Instance) -> None:
    await cloud.call("updateConfiguration", name="consoleproxy.session.total.timeout", value="90000")
    session = await authorize(cloud, await new_token(cloud, vm))
    assert session.lifetime_s == 90
    row = cloud.database.run_now(console_sessions.by_uuid, session.session_id)
    assert row.session_expires is not None
    assert timedelta(seconds=80) < row.session_expires - now() <= timedelta(seconds=90)


@pytest_twisted.ensureDeferred
async def test_ssvm_cannot_authorize_consoles(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    with pytest.raises(RpcError) as refused:
        await authorize(cloud, token, cloud.ssvm)
    assert refused.value.code == FORBIDDEN
    assert await authorize(cloud, token)


@pytest_twisted.ensureDeferred
async def test_authorization_without_a_token_is_invalid(cloud: SmallCloud) -> None:
    with pytest.raises(RpcError) as refused:
        await cloud.from_agent(cloud.cpvm, console.CONSOLE_AUTHORIZE, {"client_address": "x"})
    assert refused.value.code == INVALID_PARAMS


@pytest_twisted.ensureDeferred
async def test_tokens_and_passwords_are_not_logged(cloud: SmallCloud, vm: Instance) -> None:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(cast(ILogObserver, events.append))
    try:
        token = await new_token(cloud, vm)
        session = await authorize(cloud, token)
        await refusal(authorize(cloud, token))
        await target(cloud, session.session_id)
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, events.append))
    assert events, "user and console are logged"
    assert token not in repr(events)
    assert "pw-5901" not in repr(events)


@pytest_twisted.ensureDeferred
async def test_the_session_shows_the_machines_display_name(cloud: SmallCloud, vm: Instance) -> None:
    assert (await authorize(cloud, await new_token(cloud, vm))).display_name == "one"
    cloud.update_instance(vm, display_name="Ulla's first machine")
    assert (await authorize(cloud, await new_token(cloud, vm))).display_name == "Ulla's first machine"
