# SPDX-License-Identifier: Apache-2.0
"""Configuration files: defaults, errors with file, line and key, and samples."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from systemvm.host.bridges import BridgeKind, Datapath
from systemvm.host.config_file import ConfigError, load, to_yaml
from systemvm.host.host_file import load_host
from systemvm.host.layout import Layout
from systemvm.host.zone import TrafficType, ZoneConfig
from systemvm.management import config
from systemvm.management.config import ManagementConfig
from systemvm.management.config_show import show, summarize
from systemvm.management.samples import leave_samples, read_sample
from systemvm.wire.role import Role


@pytest.fixture
def layout(tmp_path: Path, zone_text: str) -> Layout:
    layout = Layout(tmp_path)
    layout.make()
    (layout.zones / "zone1.yaml").write_text(zone_text)
    return layout


def read_zone(layout: Layout, text: str) -> ZoneConfig:
    path = layout.zones / "zone1.yaml"
    path.write_text(text)
    return load(path, ZoneConfig)


def test_defaults_apply_without_managementd_yaml(layout: Layout) -> None:
    read = config.read(layout)
    assert read.management.control.address == IPv4Address("169.254.0.1")
    assert read.management.page.listen == "systemd:domain=INET:name=page"
    assert read.zone("zone1").networks.control.bridge == "cloud0"
    with pytest.raises(LookupError, match="zone9"):
        read.zone("zone9")


def test_all_paths_are_below_the_root(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    assert layout.pki.stat().st_mode & 0o777 == 0o700
    for path in (layout.config_file, layout.database, layout.socket, layout.first_login, layout.logs):
        assert path.is_relative_to(tmp_path)


def test_a_root_that_is_too_long_for_sockets_is_refused() -> None:
    longest = Path("/" + "r" * 76)  # with /run/systemvm/managementd.sock 107 bytes
    config.check_socket_paths(Layout(longest))
    with pytest.raises(ConfigError, match="has 78 bytes") as raised:
        config.check_socket_paths(Layout(Path(f"{longest}r")))
    assert raised.value.hint == "give a root of at most 77 bytes"


def test_relative_paths_are_relative_to_their_file(layout: Layout) -> None:
    assert config.read(layout).zones[0].image_stores[0].host_path == layout.zones / "export"


def test_written_configuration_is_read_back_equal(layout: Layout, zone: ZoneConfig) -> None:
    assert read_zone(layout, to_yaml(zone)) == zone
    layout.config_file.write_text(to_yaml(ManagementConfig()))
    assert config.read(layout).management == ManagementConfig()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bridge: cloud0",
            "brigde: cloud0",
            r"networks\.control\.brigde: unknown key; did you mean bridge\?",
        ),
        ("domain: example.test", "nonsense: 1", "nonsense: unknown key; known keys: name"),
        ("dns: [203.0.113.10]", "dns: [203.0.113.300]", "dns"),
        ("dns: [203.0.113.10]", "dns: 1", r"Expected `array`.*\$\.dns"),
        ("first: 10.11.0.100", "first: 10.99.0.100", "range is empty"),
        ("cidr: 10.12.0.0/24", "cidr: 10.99.0.0/24", "outside of its network"),
        ("first: 203.0.113.100", "first: 203.0.113.1", "contains the host's own address"),
        ("nfs://10.12.0.2/export/secondary", "http://10.12.0.2/x", "must be nfs://"),
        ("nfs://10.12.0.2/export/secondary", "nfs://store/x", "image_stores"),
        ("https://127.0.0.1:8443", "http://127.0.0.1:8443", r"console\.origin must be https"),
        ("bridge: cloudbr1", "bridge: a-bridge-with-a-long-name", "not a bridge name"),
        ("name: zone1", "name: [", "is not YAML"),
        ("networks:", "networks: 3\nx:", "Expected `object`"),
    ],
)
def test_errors_name_file_and_key(layout: Layout, zone_text: str, old: str, new: str, message: str) -> None:
    assert old in zone_text
    with pytest.raises(ConfigError, match=rf"zone1\.yaml.*{message}") as raised:
        read_zone(layout, zone_text.replace(old, new))
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("bridge: cloud0", "brigde: cloud0", "networks.control.brigde"),
        ("dns: [203.0.113.10]", "dns: 1", "$.dns"),
        ("dns: [203.0.113.10]", "dns: [203.0.113.300]", "$.dns[0]"),
        ("first: 10.11.0.100", "first: 10.11.0.300", "$.networks.management.pool.first"),
        ("name: secondary, url", "nmae: secondary, url", "image_stores[0].nmae"),
    ],
)
def test_errors_name_the_line(layout: Layout, zone_text: str, old: str, new: str, key: str) -> None:
    lines = zone_text.splitlines()
    line = next(number for number, text in enumerate(lines, 1) if old in text)
    with pytest.raises(ConfigError) as raised:
        read_zone(layout, zone_text.replace(old, new))
    message = str(raised.value)
    assert f"zone1.yaml:{line}: " in message
    assert key in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("    uplnik: eth0", r"host\.yaml:6: labels\.second\.uplnik: unknown key; did you mean uplink\?"),
        (
            "    uplink: 5",
            r"host\.yaml:6: Expected `str \| null`, got `int` - at `\$\.labels\.second\.uplink`",
        ),
        ("    kind: ovs", r"host\.yaml:6: Invalid enum value 'ovs' - at `\$\.labels\.second\.kind`"),
        ("    datapath: netdev", r"host\.yaml:4: datapath: only bridges of kind openvswitch have one"),
        ("    addresses: [10.0.0.1]", r"host\.yaml:4: addresses: .* - at `\$\.labels\.second`"),
    ],
)
def test_errors_of_a_label_name_it(tmp_path: Path, text: str, message: str) -> None:
    host = tmp_path / "host.yaml"
    host.write_text(
        f"labels:\n  first:\n    traffic_types: [guest]\n  second:\n    traffic_types: [public]\n{text}\n"
    )
    with pytest.raises(ConfigError, match=message):
        load_host(tmp_path)


def test_a_label_can_be_a_bridge_of_open_vswitch(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text(
        "labels:\n  br-ex: {traffic_types: [public], kind: openvswitch, datapath: netdev, vlans: ['100']}\n"
        "  br-int: {traffic_types: [guest], kind: openvswitch}\n  plain: {traffic_types: [storage]}\n"
    )
    networks = load_host(tmp_path).networks()
    assert [(network.kind, network.datapath) for network in networks.values()] == [
        (BridgeKind.OPENVSWITCH, Datapath.NETDEV),
        (BridgeKind.OPENVSWITCH, None),
        (BridgeKind.LINUX, None),
    ]
    assert networks["br-ex"].vlans == {100}


def test_the_control_networks_bridge_is_linuxs(layout: Layout, zone_text: str) -> None:
    """Also when only the zone's file says that it is the control network's."""
    reason = "kind: control traffic needs a Linux bridge"
    host = layout.etc / "host.yaml"
    host.write_text("labels:\n  cloud0: {traffic_types: [control], kind: openvswitch}\n")
    with pytest.raises(ConfigError, match=rf"host\.yaml:2: {reason}"):
        load_host(layout.etc)
    read_zone(layout, zone_text)
    host.write_text("labels:\n  cloud0: {traffic_types: [guest], kind: openvswitch}\n")
    with pytest.raises(ConfigError, match=rf"host\.yaml: bridge cloud0: {reason}"):
        config.read(layout)


def test_a_bridge_of_a_zones_file_has_the_kind_that_the_host_gives_it(layout: Layout, zone_text: str) -> None:
    read_zone(layout, zone_text)
    (layout.etc / "host.yaml").write_text(
        "labels:\n  cloudbr0: {traffic_types: [public], kind: openvswitch}\n"
    )
    network = config.read(layout).labels["cloudbr0"]
    assert network.kind is BridgeKind.OPENVSWITCH
    assert [str(address) for address in network.addresses] == ["203.0.113.1/24"]


def test_the_check_says_what_the_daemon_needs(tmp_path: Path, zone_text: str) -> None:
    layout = Layout(tmp_path)
    layout.make()

    def checked() -> str:
        return summarize(layout, config.read(layout), "systemvm-managementd")

    assert "there is no zone, and the daemon needs one" in checked()
    (layout.etc / "host.yaml").write_text(read_sample("host.yaml"))
    assert "the daemon can start with these files; no file has a zone" in checked()
    (layout.zones / "zone1.yaml").write_text(zone_text)
    assert checked().endswith("the daemon can start with these files\n")


def test_errors_of_broken_yaml_and_duplicate_keys_name_the_line(layout: Layout, zone_text: str) -> None:
    with pytest.raises(ConfigError, match=r"zone1\.yaml:2: is not YAML"):
        read_zone(layout, "name: zone1\n}: 3\n")
    with pytest.raises(ConfigError, match=r"zone1\.yaml:3: name: duplicate key; first in line 1"):
        read_zone(layout, "name: zone1\ndns: []\nname: zone2\n")


def test_every_value_is_shown_with_its_source(layout: Layout) -> None:
    layout.config_file.write_text("# a comment\npage:\n  origin: http://x\n")
    shown = show(layout, config.read(layout)).splitlines()

    def line(key: str) -> str:
        [found] = [text for text in shown if text.startswith(f"{key}: ")]
        return " ".join(found.split())

    assert line("page.origin") == f"page.origin: http://x # {layout.config_file}:3"
    assert line("control.port") == "control.port: 8250 # default"
    zone = layout.zones / "zone1.yaml"
    assert line("networks.control.bridge") == f"networks.control.bridge: cloud0 # {zone}:7"
    assert line("system_vms.ssvm.vcpus").endswith("# default")
    assert len(shown) > 40


def test_two_files_cannot_describe_one_zone(layout: Layout, zone_text: str) -> None:
    (layout.zones / "zone2.yaml").write_text(zone_text)
    with pytest.raises(ConfigError, match=r"zone2\.yaml.*also described by another file"):
        config.read(layout)


def test_control_networks_host_address_must_be_the_daemons(layout: Layout) -> None:
    layout.config_file.write_text("control: {address: 169.254.0.9}\n")
    with pytest.raises(ConfigError, match=r"host_address must be 169\.254\.0\.9"):
        config.read(layout)


def test_nics_of_a_system_vm_are_in_cloudstacks_order(zone: ZoneConfig) -> None:
    kinds = [kind for kind, _ in zone.networks.of_system_vm(Role.SSVM)]
    assert kinds == [
        TrafficType.CONTROL,
        TrafficType.MANAGEMENT,
        TrafficType.PUBLIC,
        TrafficType.STORAGE,
    ]
    assert [kind for kind, _ in zone.networks.of_system_vm(Role.CPVM)] == kinds[:3]


def test_agents_receive_a_store_as_server_and_path(zone: ZoneConfig) -> None:
    store = zone.image_stores[0].store
    assert (store.server, store.path, store.nfs_version) == ("10.12.0.2", "/export/secondary", "4.2")


def test_samples_are_valid_and_show_every_default(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    leave_samples(layout)
    assert config.read(layout).zones == []
    (layout.zones / "zone.yaml.sample").rename(layout.zones / "zone1.yaml")
    read = config.read(layout)
    assert read.management == ManagementConfig()
    zone = read.zone("zone1")
    bare = load_bare(layout, zone)
    assert zone.system_vms == bare.system_vms
    assert zone.console == bare.console
    assert zone.max_template_size_bytes == bare.max_template_size_bytes
    layout.config_file.write_text("page: {origin: http://x}\n")
    leave_samples(layout)
    assert config.read(layout).management.page.origin == "http://x"


def load_bare(layout: Layout, zone: ZoneConfig) -> ZoneConfig:
    return ZoneConfig(name="bare", networks=zone.networks, dns=zone.dns)


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("127.0.0.1:8250", ("127.0.0.1", 8250)),
        ("192.0.2.5", ("192.0.2.5", 8250)),
        ("[::1]", ("::1", 8250)),
        ("[2001:db8::5]:9000", ("2001:db8::5", 9000)),
    ],
)
def test_control_channel_can_have_extra_listeners(
    tmp_path: Path, text: str, listener: tuple[str, int]
) -> None:
    path = tmp_path / "managementd.yaml"
    path.write_text(f"control: {{extra_listeners: ['{text}']}}")
    assert load(path, ManagementConfig).control.listeners == [("169.254.0.1", 8250), listener]
    assert ManagementConfig().control.listeners == [("169.254.0.1", 8250)], "the only default listener"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["0.0.0.0"], "not the address of one host"),
        (["[::]:8250"], "not the address of one host"),
        (["localhost:8250"], "ADDRESS:PORT"),
        (["127.0.0.1:80"], "1024 to 65535"),
        (["127.0.0.1:99999"], "cannot be used"),
        (["127.0.0.1/x"], "is not an address"),
        (["user@127.0.0.1"], "is not an address"),
        (["127.0.0.1", "127.0.0.1:8250"], "contains a duplicate"),
        (["169.254.0.1:8250"], "contains a duplicate"),
    ],
)
def test_invalid_extra_listener_is_rejected(tmp_path: Path, texts: list[str], message: str) -> None:
    path = tmp_path / "managementd.yaml"
    path.write_text(f"control: {{extra_listeners: {texts}}}")
    with pytest.raises(ConfigError, match=message):
        load(path, ManagementConfig)
