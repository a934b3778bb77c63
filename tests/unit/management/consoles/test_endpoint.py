# SPDX-License-Identifier: Apache-2.0
"""createConsoleEndpoint: permissions, URLs, the choice of a CPVM, and the limits on links."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from small_cloud import CONSOLE_ORIGIN, SmallCloud
from systemvm.management.api import envelope
from systemvm.management.api.errors import ApiError
from systemvm.management.api.principal import Principal
from systemvm.management.configurations.console import CLIPBOARD_FROM_GUEST, SESSION_MAX, VIEW_ONLY
from systemvm.management.consoles.endpoint import ConsoleEndpoint
from systemvm.management.consoles.token import MAX_UNSPENT_OF_ACCOUNT, MAX_UNSPENT_OF_VM, token_hash
from systemvm.management.state import (
    accounts,
    configurations,
    console_revocations,
    console_sessions,
    instances,
)
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.console import UNRESTRICTED, ConsolePolicy
from systemvm.wire.protocol import POLICIES_SINCE
from systemvm.wire.role import Role

NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def vm(cloud: SmallCloud) -> Instance:
    return add_vm(cloud, cloud.user)


def add_vm(cloud: SmallCloud, owner: Principal, **columns: Any) -> Instance:
    values = {"state": InstanceState.RUNNING, "vnc_address": "10.11.0.1", "vnc_port": 5901}
    return cloud.database.run_now(
        instances.create,
        InstanceType.USER,
        account_id=owner.account.id,
        zone_id=cloud.zone.id,
        name=f"vm-{owner.user.username}",
        sealed_vnc_password=cloud.seal.close("abcd1234"),
        **(values | columns),
    )


async def endpoint(cloud: SmallCloud, uuid: str, as_user: Principal | None = None, **more: Any) -> Any:
    answer = await cloud.call("createConsoleEndpoint", as_user, virtualmachineid=uuid, **more)
    return answer["consoleendpoint"]


def add_proxy(cloud: SmallCloud) -> Instance:
    proxy = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    cloud.agents.connect(proxy.instance_name, Role.CPVM)
    return proxy


def add_user(cloud: SmallCloud, like: Principal, name: str) -> Principal:
    user = cloud.database.run_now(lambda c: accounts.create_user(c, name, like.account, None))
    return Principal(user, like.account, like.domain)


def sessions(cloud: SmallCloud) -> list[console_sessions.ConsoleSessionRow]:
    return cloud.database.run_now(console_sessions.list_all)


@pytest_twisted.ensureDeferred
async def test_the_owner_gets_a_url_and_a_websocket(cloud: SmallCloud, vm: Instance) -> None:
    answer = await endpoint(cloud, vm.uuid, cloud.user)
    token = answer["websocket"]["token"]
    assert answer == {
        "success": True,
        "url": f"{CONSOLE_ORIGIN}/console?cmd=auth&token={token}",
        "websocket": {"token": token, "host": "cpvm.example.test", "port": "8443", "path": "websockify"},
    }


@pytest_twisted.ensureDeferred
async def test_a_link_names_the_guests_keyboard_as_cloudstack_does(cloud: SmallCloud, vm: Instance) -> None:
    async def url(**more: str) -> str:
        answer = await cloud.call("createConsoleEndpoint", cloud.user, virtualmachineid=vm.uuid, **more)
        return str(answer["consoleendpoint"]["url"])

    assert "language" not in await url()
    assert (await url(keyboard="fr-ch")).endswith("&language=fr-ch")
    cloud.update_instance(vm, keyboard="de")
    assert (await url()).endswith("&language=de")
    assert (await url(keyboard="us", token="a b")).endswith("&extra=a%20b&language=us")
    with pytest.raises(ApiError, match="keyboard"):
        await url(keyboard="klingon")


@pytest_twisted.ensureDeferred
async def test_a_token_is_long_random_url_safe_and_stored_as_its_hash_only(
    cloud: SmallCloud, vm: Instance
) -> None:
    tokens = {(await endpoint(cloud, vm.uuid))["websocket"]["token"] for _ in range(20)}
    assert len(tokens) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)
    files = b"".join(path.read_bytes() for path in cloud.primary.directory.glob("systemvm.sqlite*"))
    assert not any(token.encode() in files for token in tokens)
    assert all(token_hash(token).encode() in files for token in tokens)


@pytest_twisted.ensureDeferred
async def test_session_row_has_user_vm_cpvm_and_expiry(cloud: SmallCloud, vm: Instance) -> None:
    await endpoint(cloud, vm.uuid, cloud.user)
    [session] = sessions(cloud)
    assert (session.vm_id, session.user_id, session.proxy_id) == (vm.id, cloud.user.user.id, cloud.cpvm.id)
    assert session.acquired is None
    assert session.creator_address == "192.0.2.1"
    assert 55 < (session.token_expires - session.created).total_seconds() <= 60


@pytest_twisted.ensureDeferred
async def test_administrator_can_open_every_console(cloud: SmallCloud, vm: Instance) -> None:
    assert (await endpoint(cloud, vm.uuid))["success"]
    cloud.update_instance(cloud.ssvm, vnc_address="10.11.0.1", vnc_port=5950)
    assert (await endpoint(cloud, cloud.ssvm.uuid))["success"]


@pytest_twisted.ensureDeferred
async def test_users_can_open_only_their_own_consoles(cloud: SmallCloud) -> None:
    admins = add_vm(cloud, cloud.admin)
    for uuid in (admins.uuid, cloud.ssvm.uuid, cloud.cpvm.uuid):
        answer = await endpoint(cloud, uuid, cloud.user)
        assert (answer["success"], answer["details"]) == (False, "Permission denied")
        assert "url" not in answer
        assert "websocket" not in answer
    assert sessions(cloud) == []


@pytest_twisted.ensureDeferred
async def test_unknown_vm_is_reported(cloud: SmallCloud) -> None:
    answer = await endpoint(cloud, NOWHERE)
    assert answer == {"success": False, "details": f"Cannot find VM with ID {NOWHERE}"}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("state", [state for state in InstanceState if state is not InstanceState.RUNNING])
async def test_only_running_vms_have_a_console(cloud: SmallCloud, state: InstanceState) -> None:
    vm = add_vm(cloud, cloud.user, state=state, reason="The guest shut itself down.")
    answer = await endpoint(cloud, vm.uuid)
    assert "must be running" in answer["details"]
    assert answer["hint"] == "The guest shut itself down."


@pytest_twisted.ensureDeferred
async def test_vm_without_a_vnc_server_has_no_console(cloud: SmallCloud) -> None:
    vm = add_vm(cloud, cloud.user, vnc_port=None)
    assert "has no VNC server" in (await endpoint(cloud, vm.uuid))["details"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("missing", ["agent", "machine"])
async def test_missing_cpvm_is_reported_as_temporary(cloud: SmallCloud, vm: Instance, missing: str) -> None:
    if missing == "agent":
        cloud.agents.disconnect(cloud.cpvm.instance_name)
    else:
        cloud.update_instance(cloud.cpvm, state=InstanceState.STOPPED)
    answer = await endpoint(cloud, vm.uuid)
    assert answer["details"] == "Console access will be ready in a few minutes. Please try it again later."
    assert answer["success"] is False


@pytest_twisted.ensureDeferred
async def test_least_loaded_cpvm_is_chosen(cloud: SmallCloud) -> None:
    other = add_proxy(cloud)
    cloud.update_instance(cloud.cpvm, console_sessions=3)
    chosen = []
    for _ in range(4):
        await endpoint(cloud, add_vm(cloud, cloud.user).uuid)
        chosen.append(sessions(cloud)[-1].proxy_id)
    assert chosen == [other.id, other.id, other.id, cloud.cpvm.id], "new consoles count too"


@pytest_twisted.ensureDeferred
async def test_full_cpvm_is_not_chosen(cloud: SmallCloud, vm: Instance) -> None:
    cloud.update_instance(cloud.cpvm, console_sessions=SESSION_MAX.default)
    assert f"have {SESSION_MAX.default} sessions" in (await endpoint(cloud, vm.uuid))["details"]
    await cloud.call("updateConfiguration", name=SESSION_MAX.name, value="60", zoneid=cloud.zone.uuid)
    assert (await endpoint(cloud, vm.uuid))["success"]


@pytest_twisted.ensureDeferred
async def test_an_additional_secret_is_in_the_link_and_only_its_hash_in_the_database(
    cloud: SmallCloud, vm: Instance
) -> None:
    answer = await endpoint(cloud, vm.uuid, token="my own&x=1")
    assert answer["url"].endswith("&extra=my%20own%26x%3D1")
    assert answer["websocket"]["extra"] == "my own&x=1"
    [session] = sessions(cloud)
    assert session.extra_hash == token_hash("my own&x=1")
    assert "extra" not in (await endpoint(cloud, vm.uuid))["websocket"]
    refused = await endpoint(cloud, vm.uuid, token="x" * 257)
    assert (refused["success"], "too long" in refused["details"]) == (False, True)


@pytest_twisted.ensureDeferred
async def test_the_zone_can_require_an_additional_secret(cloud: SmallCloud, vm: Instance) -> None:
    name = "consoleproxy.extra.security.validation.enabled"
    await cloud.call("updateConfiguration", name=name, value="true", zoneid=cloud.zone.uuid)
    refused = await endpoint(cloud, vm.uuid)
    assert (refused["success"], "token is missing" in refused["details"]) == (False, True)
    assert sessions(cloud) == []
    assert (await endpoint(cloud, vm.uuid, token="mine"))["success"]


@pytest_twisted.ensureDeferred
async def test_the_zone_sets_how_long_a_link_is_valid(cloud: SmallCloud, vm: Instance) -> None:
    name = "consoleproxy.session.token.lifetime"
    await cloud.call("updateConfiguration", name=name, value="10000")
    await endpoint(cloud, vm.uuid)
    [session] = sessions(cloud)
    assert timedelta(seconds=9) < session.token_expires - session.created <= timedelta(seconds=10.5)


@pytest.mark.parametrize(
    ("origin", "host", "port", "path"),
    [
        ("https://127.0.0.1:8443", "127.0.0.1", 8443, "websockify"),
        ("https://console.example.test", "console.example.test", 443, "websockify"),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443, "websockify"),
        ("https://cloud.example.test/consoles", "cloud.example.test", 443, "consoles/websockify"),
    ],
)
def test_url_is_derived_from_the_advertised_origin(origin: str, host: str, port: int, path: str) -> None:
    made = ConsoleEndpoint.of(PublicEndpoint.parse(origin), "t", None)
    assert (made.url, made.host, made.port) == (f"{origin}/console?cmd=auth&token=t", host, port)
    assert made.path == path
    assert "token=t" not in repr(made)


@pytest_twisted.ensureDeferred
async def test_closed_consoles_do_not_count_as_load(cloud: SmallCloud, vm: Instance) -> None:
    """Their browsers can reconnect for hours, so they keep their sessions without using capacity."""
    await endpoint(cloud, vm.uuid)
    [session] = sessions(cloud)
    spent = {"acquired": now() - timedelta(minutes=1), "session_expires": now() + timedelta(hours=3)}
    cloud.database.run_now(console_sessions.rows.update, session.id, **spent)
    copied = {"account_id": 1, "domain_id": 1, "user_id": 1, "vm_id": vm.id, "proxy_id": cloud.cpvm.id}
    for number in range(int(SESSION_MAX.default)):
        cloud.database.run_now(
            console_sessions.rows.insert, token_hash=f"{number}", token_expires=now(), **copied, **spent
        )
    assert (await endpoint(cloud, vm.uuid))["success"]


@pytest_twisted.ensureDeferred
async def test_new_consoles_count_until_the_cpvm_reports_them(cloud: SmallCloud, vm: Instance) -> None:
    other = add_proxy(cloud)
    await endpoint(cloud, vm.uuid)
    [session] = sessions(cloud)
    assert session.proxy_id == cloud.cpvm.id
    cloud.database.run_now(console_sessions.rows.update, session.id, acquired=now())
    await endpoint(cloud, vm.uuid)
    assert sessions(cloud)[-1].proxy_id == other.id


@pytest_twisted.ensureDeferred
async def test_unopened_links_do_not_fill_a_cpvm(cloud: SmallCloud, vm: Instance) -> None:
    """Attack: as many calls as a CPVM has sessions, for one VM and for many, without opening a link."""
    many = [add_vm(cloud, cloud.user) for _ in range(int(SESSION_MAX.default))]
    for target in [*[vm] * int(SESSION_MAX.default), *many]:
        assert (await endpoint(cloud, target.uuid, cloud.user))["success"]
    others = add_vm(cloud, cloud.admin)
    answer = await endpoint(cloud, others.uuid)
    assert answer["success"], answer


@pytest_twisted.ensureDeferred
async def test_new_link_replaces_only_that_of_the_same_user_and_vm(cloud: SmallCloud, vm: Instance) -> None:
    other = add_vm(cloud, cloud.user)
    await endpoint(cloud, vm.uuid, cloud.admin)
    await endpoint(cloud, other.uuid, cloud.user)
    await endpoint(cloud, vm.uuid, cloud.user)
    await endpoint(cloud, vm.uuid, cloud.user)
    reasons = [session.close_reason for session in sessions(cloud)]
    assert reasons == [None, None, console_revocations.REPLACED, None]


@pytest_twisted.ensureDeferred
async def test_a_link_that_was_opened_is_not_replaced(cloud: SmallCloud, vm: Instance) -> None:
    await endpoint(cloud, vm.uuid, cloud.user)
    [session] = sessions(cloud)
    later = now() + timedelta(hours=1)
    cloud.database.run_now(console_sessions.rows.update, session.id, acquired=now(), session_expires=later)
    await endpoint(cloud, vm.uuid, cloud.user)
    assert [one.removed for one in sessions(cloud)] == [None, None]


@pytest_twisted.ensureDeferred
async def test_links_of_an_account_are_bounded_and_the_oldest_end_first(cloud: SmallCloud) -> None:
    await endpoint(cloud, add_vm(cloud, cloud.admin).uuid)
    machines = [add_vm(cloud, cloud.user) for _ in range(MAX_UNSPENT_OF_ACCOUNT + 3)]
    for machine in machines:
        await endpoint(cloud, machine.uuid, cloud.user)
    living = [one.vm_id for one in sessions(cloud) if one.removed is None]
    assert living[0] not in [machine.id for machine in machines], "another account's link is untouched"
    assert living[1:] == [machine.id for machine in machines[3:]]


@pytest_twisted.ensureDeferred
async def test_links_of_an_account_to_one_vm_are_bounded(cloud: SmallCloud, vm: Instance) -> None:
    users = [add_user(cloud, cloud.user, f"user-{number}") for number in range(MAX_UNSPENT_OF_VM + 2)]
    for user in users:
        await endpoint(cloud, vm.uuid, user)
    living = [one.user_id for one in sessions(cloud) if one.removed is None]
    assert living == [user.user.id for user in users[2:]]


@pytest_twisted.ensureDeferred
async def test_a_link_has_the_policy_that_its_parameters_ask_for(cloud: SmallCloud, vm: Instance) -> None:
    await endpoint(cloud, vm.uuid)
    await endpoint(cloud, vm.uuid, viewonly="true")
    await endpoint(cloud, vm.uuid, clipboardtoguest="false")
    await endpoint(cloud, vm.uuid, clipboardfromguest="false", viewonly="false")
    assert [session.policy for session in sessions(cloud)] == [
        UNRESTRICTED,
        ConsolePolicy(view_only=True),
        ConsolePolicy(clipboard_to_guest=False),
        ConsolePolicy(clipboard_from_guest=False),
    ]


@pytest_twisted.ensureDeferred
async def test_a_link_permits_no_more_than_the_zone(cloud: SmallCloud, vm: Instance) -> None:
    for setting, value in ((VIEW_ONLY, "true"), (CLIPBOARD_FROM_GUEST, "false")):
        await cloud.call("updateConfiguration", name=setting.name, value=value, zoneid=cloud.zone.uuid)
    await endpoint(cloud, vm.uuid, viewonly="false", clipboardtoguest="false", clipboardfromguest="true")
    [session] = sessions(cloud)
    assert session.policy == ConsolePolicy(True, False, False)


@pytest_twisted.ensureDeferred
async def test_a_limited_session_is_given_to_no_cpvm_that_would_not_enforce_it(
    cloud: SmallCloud, vm: Instance
) -> None:
    cloud.agents.protocols[cloud.cpvm.instance_name] = POLICIES_SINCE - 1
    refused = await endpoint(cloud, vm.uuid, viewonly="true")
    assert not refused["success"] and sessions(cloud) == []
    assert (await endpoint(cloud, vm.uuid))["success"]
    newer = add_proxy(cloud)
    cloud.update_instance(newer, console_sessions=5)
    assert (await endpoint(cloud, vm.uuid, viewonly="true"))["success"]
    assert sessions(cloud)[-1].proxy_id == newer.id


@pytest_twisted.ensureDeferred
async def test_an_administrator_opens_the_screen_of_a_system_vm(cloud: SmallCloud) -> None:
    """As CloudStack's smoke test does; users are refused."""
    proxy = add_proxy(cloud)
    ssvm = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    for vm in (proxy, ssvm):
        cloud.database.run_now(
            instances.update, vm.id, state=InstanceState.RUNNING, vnc_address="10.11.0.1", vnc_port=5910
        )
        assert (await endpoint(cloud, vm.uuid, cloud.admin))["success"] is True
        refused = await endpoint(cloud, vm.uuid, cloud.user)
        assert (refused["success"], refused["details"]) == (False, "Permission denied")


@pytest_twisted.ensureDeferred
async def test_a_screen_with_tls_is_given_to_no_cpvm_that_cannot_reach_it(
    cloud: SmallCloud, vm: Instance
) -> None:
    cloud.agents.protocols[cloud.cpvm.instance_name] = POLICIES_SINCE - 1
    assert (await endpoint(cloud, vm.uuid))["success"]
    cloud.database.run_now(instances.update, vm.id, vnc_ca_pem="CA")
    assert not (await endpoint(cloud, vm.uuid))["success"]
    newer = add_proxy(cloud)
    assert (await endpoint(cloud, vm.uuid))["success"]
    assert sessions(cloud)[-1].proxy_id == newer.id


@pytest.fixture
def checked(cloud: SmallCloud) -> SmallCloud:
    """Have the zone check from where its links are opened."""
    name = "novnc.console.sourceip.check.enabled"
    cloud.database.run_now(lambda c: configurations.put(c, name, None, "true"))
    return cloud


async def by_socket(cloud: SmallCloud, **more: str) -> Any:
    command = cloud.table.find("createConsoleEndpoint")
    result = await command.run(cloud.admin, more, "root", "request-1")
    return envelope.result_body(command, result)["consoleendpoint"]


@pytest_twisted.ensureDeferred
async def test_an_operators_link_is_not_made_where_nobody_could_open_it(
    checked: SmallCloud, vm: Instance
) -> None:
    answer = await by_socket(checked, virtualmachineid=vm.uuid)
    assert not answer["success"]
    assert "novnc.console.sourceip.check.enabled" in answer["details"]
    assert answer["websocket"] == {"host": "cpvm.example.test", "port": "8443", "path": "websockify"}
    assert sessions(checked) == []


@pytest_twisted.ensureDeferred
async def test_an_operator_names_the_address_of_a_link(checked: SmallCloud, vm: Instance) -> None:
    answer = await by_socket(checked, virtualmachineid=vm.uuid, clientaddress="2001:db8::7")
    assert answer["success"]
    [session] = sessions(checked)
    assert session.creator_address == "2001:db8::7"
    with pytest.raises(ApiError, match="clientaddress"):
        await by_socket(checked, virtualmachineid=vm.uuid, clientaddress="desk-7")


@pytest_twisted.ensureDeferred
async def test_a_user_cannot_name_the_address_of_a_link(checked: SmallCloud, vm: Instance) -> None:
    for user in (checked.user, checked.admin):
        with pytest.raises(ApiError, match=r"192\.0\.2\.1"):
            await endpoint(checked, vm.uuid, user, clientaddress="192.0.2.1")
    assert sessions(checked) == []
