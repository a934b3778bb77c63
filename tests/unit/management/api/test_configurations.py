# SPDX-License-Identifier: Apache-2.0
"""Settings: list, change and reset, for all zones or one, sent to console proxies at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import msgspec
import pytest
import pytest_twisted

from settling import settled
from small_cloud import SmallCloud
from small_cloud.rows import NETWORKS
from systemvm.host.zone import SecondaryStorageConfig, ZoneConfig
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.configurations import ConfigurationCommands
from systemvm.management.api.errors import ApiError
from systemvm.management.command_services import values_of_files
from systemvm.management.config import ExpungeConfig, ManagementConfig
from systemvm.management.configurations import image_storage
from systemvm.management.configurations.registry import SETTINGS
from systemvm.management.configurations.setting import Setting
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


@pytest.mark.parametrize(
    ("of_file", "of_zone", "of_all", "holds"),
    [
        (14_400, None, None, 14_400),
        (14_400, None, "9000", 9000),
        (3600, None, "9000", 3600),
        (3600, "600", "9000", 600),
        (3600, "14400", None, 14_400),
    ],
)
def test_a_zones_own_value_comes_before_its_file_and_that_before_all_zones(
    of_file: float, of_zone: str | None, of_all: str | None, holds: float
) -> None:
    name = "extract.url.expiration.interval"
    said = SecondaryStorageConfig(extract_url_expiration_interval=of_file)
    file = ZoneConfig("zone1", NETWORKS, [], secondary_storage=said)
    own, every = ({} if text is None else {name: text} for text in (of_zone, of_all))
    found = image_storage.with_settings(file, own, every)
    assert found.secondary_storage == SecondaryStorageConfig(extract_url_expiration_interval=holds)


@pytest_twisted.ensureDeferred
async def test_what_files_say_is_listed_until_it_is_changed(cloud: SmallCloud) -> None:
    name, zone = "disable.extraction", cloud.zone.uuid
    file = cloud.configuration.zones[0]
    said = SecondaryStorageConfig(disable_extraction=True)
    cloud.configuration.zones[0] = msgspec.structs.replace(file, secondary_storage=said)
    assert (await listed(cloud, name=name, zoneid=zone), (await listed(cloud))[name]) == (
        {name: "true"},
        "false",
    )
    await cloud.call("updateConfiguration", name=name, value="false", zoneid=zone)
    assert await listed(cloud, name=name, zoneid=zone) == {name: "false"}


@pytest_twisted.ensureDeferred
async def test_what_the_daemons_file_says_is_listed_until_it_is_changed(cloud: SmallCloud) -> None:
    said = ManagementConfig(expunge=ExpungeConfig(delay=3600.0, allow_user_view_destroyed_vm=True))
    files = partial(values_of_files, attrs.evolve(cloud.configuration, management=said))
    on_changed = partial(cloud.database.run, lambda connection: None)
    others = ConfigurationCommands(cloud.database, on_changed, cloud.seal.close, files).commands()
    kept = [command for command in cloud.table if "Configuration" not in command.name]
    cloud.table = CommandTable([*kept, *others])
    names = ("expunge.delay", "allow.user.expunge.recover.vm", "allow.user.view.destroyed.vm")
    delay = {"name": names[0]}

    async def found() -> list[str]:
        values = await listed(cloud)
        return [values[name] for name in names]

    assert await found() == ["3600", "false", "true"]
    await cloud.call("updateConfiguration", **delay, value="86400")
    assert await found() == ["86400", "false", "true"], "a default that was set comes before the file"
    reset = await cloud.call("resetConfiguration", **delay)
    assert (reset["configuration"]["value"], await found()) == ("3600", ["3600", "false", "true"])


@pytest_twisted.ensureDeferred
async def test_settings_of_secondary_storage_hold_in_their_zone_at_once(cloud: SmallCloud) -> None:
    values = {
        "secondary.storage.capacity.threshold": "0.5",
        "zone.secstorage.capacity.notificationthreshold": "0.4",
        "image.store.imbalance.threshold": "0.2",
        "upload.operation.timeout": "5",
        "disable.extraction": "true",
        "max.template.iso.size": "2",
    }
    for name, value in values.items():
        await cloud.call("updateConfiguration", name=name, value=value, zoneid=cloud.zone.uuid)
    settings = cloud.configuration.zone(cloud.zone.name)
    assert settings.secondary_storage == SecondaryStorageConfig(
        capacity_threshold=0.5,
        notification_threshold=0.4,
        imbalance_threshold=0.2,
        upload_operation_timeout=300,
        disable_extraction=True,
    )
    assert settings.max_template_size_bytes == 2 << 30
    assert values.items() <= (await listed(cloud, zoneid=cloud.zone.uuid)).items()
    texts = image_storage.texts_of(settings)
    assert texts == values  # as if its file said so
    for name in values:
        await cloud.call("resetConfiguration", name=name, zoneid=cloud.zone.uuid)
    assert image_storage.texts_of(cloud.configuration.zone(cloud.zone.name)) == {}


@pytest.mark.parametrize("setting", image_storage.IMAGE_STORAGE_SETTINGS, ids=lambda each: each.name)
def test_a_settings_default_is_that_of_files(setting: Setting) -> None:
    file = ZoneConfig("zone1", NETWORKS, [])
    assert image_storage.with_settings(file, {setting.name: setting.text(setting.default)}, {}) == file
