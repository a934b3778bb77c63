# SPDX-License-Identifier: Apache-2.0
"""Settings: list, change and reset, for all zones or one, sent to console proxies at once."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.configurations.registry import SETTINGS
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_CONFIGURE, SessionLimits

MAX = "consoleproxy.session.max"


async def listed(cloud: SmallCloud, **arguments: Any) -> dict[str, str]:
    answer = await cloud.call("listConfigurations", **arguments)
    return {each["name"]: each["value"] for each in answer.get("configuration", [])}


@pytest_twisted.ensureDeferred
async def test_all_settings_are_listed_with_cloudstacks_defaults(cloud: SmallCloud) -> None:
    values = await listed(cloud)
    assert set(values) == set(SETTINGS)
    assert (values[MAX], values["consoleproxy.session.timeout"]) == ("50", "300000")
    assert values["novnc.console.sourceip.check.enabled"] == "false"
    assert await listed(cloud, name=MAX, category="advanced", group="console proxy") == {MAX: "50"}
    assert await listed(cloud, category="Storage") == {}
    assert await listed(cloud, keyword="timeout") != values


@pytest_twisted.ensureDeferred
async def test_a_setting_of_accounts_is_none_of_a_zone(cloud: SmallCloud) -> None:
    name, zone = "max.account.user.vms", cloud.zone.uuid
    [found] = (await cloud.call("listConfigurations", name=name))["configuration"]
    assert (found["scope"], found["group"], found["value"]) == ("global", "Account Defaults", "-1")
    assert name not in await listed(cloud, zoneid=zone)
    for command, more in (("updateConfiguration", {"value": "3"}), ("resetConfiguration", {})):
        with pytest.raises(ApiError, match="is the same in all zones"):
            await cloud.call(command, name=name, zoneid=zone, **more)
    await cloud.call("updateConfiguration", name=name, value="3")
    assert (await listed(cloud, name=name)) == {name: "3"}


@pytest_twisted.ensureDeferred
async def test_a_zones_value_comes_before_that_of_all_zones(cloud: SmallCloud) -> None:
    zone = cloud.zone.uuid
    await cloud.call("updateConfiguration", name=MAX, value="70", zoneid=zone)
    answer = await cloud.call("updateConfiguration", name=MAX, value="60")
    assert answer["configuration"]["value"] == "60"
    assert ((await listed(cloud))[MAX], (await listed(cloud, zoneid=zone))[MAX]) == ("60", "70")
    await cloud.call("resetConfiguration", name=MAX, zoneid=zone)
    assert (await listed(cloud, zoneid=zone))[MAX] == "60"
    answer = await cloud.call("resetConfiguration", name=MAX)
    assert answer["configuration"]["value"] == answer["configuration"]["defaultvalue"] == "50"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "value"),
    [
        (MAX, "0"),
        (MAX, "2001"),
        (MAX, "many"),
        (MAX, "1e2"),
        ("consoleproxy.session.timeout", "-1"),
        ("novnc.console.sourceip.check.enabled", "1"),
        ("consoleproxy.session.maximum", "5"),
    ],
)
async def test_other_values_are_refused(cloud: SmallCloud, name: str, value: str) -> None:
    before = await listed(cloud)
    with pytest.raises(ApiError):
        await cloud.call("updateConfiguration", name=name, value=value)
    assert await listed(cloud) == before


@pytest_twisted.ensureDeferred
async def test_users_cannot_read_or_change_settings(cloud: SmallCloud) -> None:
    for command, arguments in (
        ("listConfigurations", {}),
        ("updateConfiguration", {"name": MAX, "value": "1"}),
        ("resetConfiguration", {"name": MAX}),
    ):
        with pytest.raises(ApiError):
            await cloud.call(command, cloud.user, **arguments)


@pytest_twisted.ensureDeferred
async def test_a_change_is_sent_to_console_proxies_at_once(cloud: SmallCloud) -> None:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_CONFIGURE] = lambda _: Acknowledgement()
    await cloud.call("updateConfiguration", name="consoleproxy.session.timeout", value="120000")
    await settled(cloud.database)
    assert peer.params_of(CONSOLE_CONFIGURE) == [SessionLimits(idle_timeout_s=120.0)]


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_is_away_delays_no_change(cloud: SmallCloud) -> None:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_CONFIGURE] = lambda _: RpcError(NOT_CONNECTED, "gone")
    await cloud.call("updateConfiguration", name=MAX, value="7")
    await settled(cloud.database)
    assert (await listed(cloud))[MAX] == "7"
