# SPDX-License-Identifier: Apache-2.0
"""The unchanged CloudStack driver of Apache Libcloud against the API on a real port."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState, Provider
from twisted.internet.threads import deferToThread

from small_cloud import SmallCloud
from small_cloud.fixtures import cloud, pristine, url
from small_cloud.rows import API_KEY, SECRET_KEY

__all__ = ["cloud", "pristine", "url"]


def driver(url: str) -> Any:
    made = get_driver(Provider.CLOUDSTACK)(key=API_KEY, secret=SECRET_KEY, url=url, secure=False)
    made.connection.poll_interval = 0.05  # type: ignore[attr-defined]
    return made


@pytest_twisted.ensureDeferred
async def test_a_node_is_created_and_destroyed(cloud: SmallCloud, url: str) -> None:
    """Call list_locations, list_images, list_sizes, create_node, list_nodes, reboot_node and destroy_node."""
    template, _ = cloud.add_template(name="tiny")

    def use() -> None:
        api = driver(url)
        [location] = api.list_locations()
        assert location.id == cloud.zone.uuid
        [image] = api.list_images(location)
        assert (image.id, image.name) == (template.uuid, "tiny")
        assert image.extra["os"]
        size = next(size for size in api.list_sizes() if size.name == "tiny")
        assert size.ram == 128
        node = api.create_node(name="one", size=size, image=image, location=location, ex_start_vm=True)
        assert (node.name, node.state) == ("one", NodeState.RUNNING)
        [volume] = api.list_volumes(node)
        assert volume.extra["volume_type"] == "ROOT"
        assert [each.id for each in api.list_nodes()] == [node.id]
        assert [each.id for each in api.list_nodes(location=location)] == [node.id]
        api.reboot_node(node)
        assert api.list_nodes()[0].state == NodeState.RUNNING
        assert api.destroy_node(node, ex_expunge=True)
        assert api.list_nodes() == []

    await deferToThread(use)


@pytest_twisted.ensureDeferred
async def test_unsupported_resources_are_listed_as_empty(cloud: SmallCloud, url: str) -> None:
    def use() -> None:
        api = driver(url)
        assert api.list_key_pairs() == []
        assert api.ex_list_security_groups() == []
        assert api.ex_list_affinity_groups() == []
        assert api.ex_list_affinity_group_types() == []
        assert api.ex_list_projects() == []
        assert api.ex_list_routers() == []
        assert api.ex_list_vpcs() == []
        assert api.ex_list_vpc_offerings() == []
        assert api.ex_list_public_ips() == []
        assert api.ex_list_port_forwarding_rules() == []
        assert api.ex_list_ip_forwarding_rules() == []
        [network] = api.ex_list_networks()
        assert network.zoneid == cloud.zone.uuid

    await deferToThread(use)


@pytest_twisted.ensureDeferred
async def test_a_node_with_a_volume_is_stopped_and_started(cloud: SmallCloud, url: str) -> None:
    cloud.add_template(name="tiny")

    def use() -> None:
        api = driver(url)
        [image] = api.list_images()
        size = next(size for size in api.list_sizes() if size.name == "tiny")
        [offering] = api.ex_list_disk_offerings()
        assert (offering.name, offering.customizable) == ("Custom", True)
        node = api.create_node(name="one", size=size, image=image)
        assert api.ex_create_tags([node.id], "UserVm", {"env": "test"})
        assert api.ex_get_node(node.id).extra["tags"] == {"env": "test"}
        assert api.ex_delete_tags([node.id], "UserVm", ["env"])
        volume = api.create_volume(1, "data")
        assert api.attach_volume(node, volume)
        found = {each.name: each for each in api.list_volumes(node)}
        assert found["data"].size == 1 << 30
        assert api.ex_get_volume(volume.id).extra["instance_id"] == node.id
        assert api.detach_volume(volume)
        assert api.destroy_volume(volume)
        assert api.ex_stop(node) == "Stopped"
        assert api.ex_get_node(node.id).state == NodeState.STOPPED
        assert api.ex_start(node) == "Running"
        limits = api.ex_limits()
        assert {"max_instances", "max_volumes", "max_cpu", "max_secondary_storage"} <= limits.keys()
        assert set(limits.values()) == {-1}
        assert any(one["description"] == "Other Linux (64-bit)" for one in api.ex_list_os_types())
        [iso] = api.ex_register_iso("cd", "https://images.example.test/cd.iso", api.list_locations()[0])[
            "iso"
        ]
        assert iso["name"] == "cd"
        assert api.destroy_node(node, ex_expunge=True)

    await deferToThread(use)
