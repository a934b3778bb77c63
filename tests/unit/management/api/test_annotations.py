# SPDX-License-Identifier: Apache-2.0
"""Annotations: texts about objects, by their owners and by administrators."""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import events, schema
from systemvm.management.state.database import Connection
from systemvm.management.state.entity_annotations import ENTITY_TYPES
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import ImageFormat
from user_accounts import new_account
from user_vms import deploy_running, deploy_stopped

#: Of each type: a command that lists its objects, the object's key, and further parameters.
LISTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "VM": ("listVirtualMachines", "virtualmachine", {}),
    "VOLUME": ("listVolumes", "volume", {}),
    "SNAPSHOT": ("listSnapshots", "snapshot", {}),
    "NETWORK": ("listNetworks", "network", {"keyword": "lab"}),
    "TEMPLATE": ("listTemplates", "template", {"templatefilter": "all"}),
    "ISO": ("listIsos", "iso", {}),
    "SYSTEM_VM": ("listSystemVms", "systemvm", {}),
    "SERVICE_OFFERING": ("listServiceOfferings", "serviceoffering", {}),
    "DISK_OFFERING": ("listDiskOfferings", "diskoffering", {}),
    "ZONE": ("listZones", "zone", {}),
    "POD": ("listPods", "pod", {}),
    "CLUSTER": ("listClusters", "cluster", {}),
    "HOST": ("listHosts", "host", {"type": "Routing"}),
    "DOMAIN": ("listDomains", "domain", {}),
    "PRIMARY_STORAGE": ("listStoragePools", "storagepool", {}),
    "SECONDARY_STORAGE": ("listImageStores", "imagestore", {}),
}


async def annotate(
    cloud: SmallCloud, kind: str, uuid: str, as_user: Any = None, text: str = "moves on Friday", **more: str
) -> dict[str, Any]:
    given = {"annotation": text, "entitytype": kind, "entityid": uuid, **more}
    answer: dict[str, Any] = (await cloud.call("addAnnotation", as_user, **given))["annotation"]
    return answer


async def texts(cloud: SmallCloud, as_user: Any = None, /, **which: Any) -> list[str]:
    answer = await cloud.call("listAnnotations", as_user, **which)
    found = [row["annotation"] for row in answer.get("annotation", [])]
    assert answer.get("count", 0) == len(found)
    return found


@pytest_twisted.ensureDeferred
async def test_objects_of_all_types_are_annotated(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    vm = await deploy_running(cloud)
    cloud.add_template(name="cd", format=ImageFormat.ISO)
    [volume] = (await cloud.call("listVolumes"))["volume"]
    job = await cloud.job("createSnapshot", volumeid=volume["id"])
    assert job.result_code == 0, job.result
    labels: Any = cloud.configuration.labels
    addresses = ((200, (IPv4Interface("10.20.0.2/24"),)),)
    labels["cloudbr3"] = evolve(labels["cloudbr3"], vlans=frozenset({200}), vlan_addresses=addresses)
    await cloud.call(
        "createNetwork", name="lab", zoneid=cloud.zone.uuid, vlan="200", gateway="10.20.0.1",
        netmask="255.255.255.0", startip="10.20.0.10", endip="10.20.0.20",
    )  # fmt: skip
    assert LISTS.keys() == ENTITY_TYPES.keys()
    for kind, (command, name, more) in LISTS.items():
        shown = (await cloud.call(command, **more))[name][0]
        added = await annotate(cloud, kind.lower(), shown["id"])
        assert (added["entitytype"], added["entityid"], added["entityname"]) == (
            kind, shown["id"], shown["name"],
        )  # fmt: skip
        assert (added["username"], added["adminsonly"]) == ("admin", False)
        assert await texts(cloud, entitytype=kind, entityid=shown["id"]) == ["moves on Friday"]
        assert (await cloud.call("listAnnotations", id=added["id"]))["annotation"] == [added]
    assert len(await texts(cloud)) == len(LISTS)
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert await texts(cloud, entitytype="VM") == [], "a removed object has none"


@pytest_twisted.ensureDeferred
async def test_they_are_found_by_text_and_author_the_newest_first(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud, cloud.user)
    mine = await annotate(cloud, "VM", vm.uuid, cloud.user, "Mine")
    await annotate(cloud, "VM", vm.uuid, text="100% full")
    assert await texts(cloud) == ["100% full", "Mine"]
    assert await texts(cloud, cloud.user, annotationfilter="self") == ["Mine"]
    assert await texts(cloud, cloud.user, annotationfilter="all") == ["100% full", "Mine"]
    assert await texts(cloud, userid=mine["userid"]) == ["Mine"]
    assert await texts(cloud, userid=mine["userid"], annotationfilter="self") == []
    assert await texts(cloud, userid=NOWHERE) == []
    assert await texts(cloud, keyword="0% F") == ["100% full"]
    page = await cloud.call("listAnnotations", page=2, pagesize=1)
    assert (page["count"], page["annotation"][0]["annotation"]) == (2, "Mine")


@pytest_twisted.ensureDeferred
async def test_users_annotate_and_see_their_own_objects_only(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud, cloud.user)
    other = await new_account(cloud)
    await annotate(cloud, "VM", vm.uuid, cloud.user)
    assert await texts(cloud, other) == []
    given = {"annotation": "x", "entitytype": "VM", "entityid": vm.uuid}
    assert (await refusal(cloud, "addAnnotation", other, **given)).code is ErrorCode.UNAUTHORIZED
    host = {"annotation": "x", "entitytype": "HOST", "entityid": cloud.host.uuid}
    refused = await refusal(cloud, "addAnnotation", cloud.user, **host)
    assert refused.code is ErrorCode.UNAUTHORIZED
    assert refused.message == "User: ada is not allowed to add annotations on type: HOST".replace(
        "ada", cloud.user.user.username
    )
    await annotate(cloud, "HOST", cloud.host.uuid)
    assert await texts(cloud, cloud.user, entitytype="HOST") == []


@pytest_twisted.ensureDeferred
async def test_what_is_for_administrators_is_hidden_from_the_owner(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud, cloud.user)
    added = await annotate(cloud, "VM", vm.uuid, adminsonly="true")
    assert added["adminsonly"] is True
    assert await texts(cloud, cloud.user) == []
    given = {"id": added["id"], "adminsonly": "false"}
    refused = await refusal(cloud, "updateAnnotationVisibility", cloud.user, **given)
    assert refused.code is ErrorCode.UNSUPPORTED, "it is not a command of users"
    shown = await cloud.call("updateAnnotationVisibility", **given)
    assert shown["annotation"] == added | {"adminsonly": False}
    assert await texts(cloud, cloud.user) == ["moves on Friday"]


@pytest_twisted.ensureDeferred
async def test_authors_and_administrators_remove_them(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud, cloud.user)
    mine = await annotate(cloud, "VM", vm.uuid, cloud.user)
    theirs = await annotate(cloud, "VM", vm.uuid)
    refused = await refusal(cloud, "removeAnnotation", cloud.user, id=theirs["id"])
    assert refused.code is ErrorCode.UNAUTHORIZED
    assert (await cloud.call("removeAnnotation", cloud.user, id=mine["id"]))["annotation"] == mine
    await cloud.call("removeAnnotation", id=theirs["id"])
    assert await texts(cloud) == []
    recorded = [event.type for event in cloud.database.run_now(events.newest, 4)]
    assert recorded.count("ANNOTATION.CREATE") == recorded.count("ANNOTATION.REMOVE") == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"annotation": " "},
        {"annotation": "x" * 4097},
        {"entitytype": "VPC"},
        {"entitytype": "SYSTEM_VM"},
        {"entityid": NOWHERE},
        {"entityid": "x"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_annotation_is_refused(cloud: SmallCloud, wrong: dict[str, str]) -> None:
    vm = await deploy_stopped(cloud)
    with pytest.raises(SystemVmError) as refused:
        await cloud.call(
            "addAnnotation", **({"annotation": "x", "entitytype": "VM", "entityid": vm.uuid} | wrong)
        )
    assert refused.value.code in (ErrorCode.PARAMETER, FailureCode.NOT_FOUND)
    assert await texts(cloud) == []


@pytest_twisted.ensureDeferred
async def test_one_annotation_and_those_of_an_object_are_not_asked_for_at_once(cloud: SmallCloud) -> None:
    refused = await refusal(cloud, "listAnnotations", id=NOWHERE, entitytype="VM")
    assert refused.code is ErrorCode.PARAMETER
    assert refused.hint == "omit id, or entitytype and entityid"


@pytest_twisted.ensureDeferred
async def test_a_list_without_end_names_each_object_once(cloud: SmallCloud) -> None:
    """SQLite limits the number of parameters of a query."""
    vm = await deploy_stopped(cloud)
    owner = cloud.admin

    def write_many(connection: Connection) -> None:
        row = {
            "entity_type": "VM", "entity_uuid": vm.uuid, "account_id": owner.account.id,
            "user_id": owner.user.id, "annotation": "again", "admins_only": False,
        }  # fmt: skip
        connection.execute(schema.entity_annotations.insert(), [row] * 40_000)

    cloud.database.run_now(write_many)
    answer = await cloud.call("listAnnotations", pagesize=-1)
    assert answer["count"] == 40_000
    assert {row["entityname"] for row in answer["annotation"]} == {vm.name}
