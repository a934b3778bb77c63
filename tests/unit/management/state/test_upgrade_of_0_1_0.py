# SPDX-License-Identifier: Apache-2.0
"""The database of release 0.1.0 is upgraded, and nothing in it is lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from settling import settled
from small_cloud import SmallCloud, make
from small_cloud.rows import NETWORKS
from systemvm.host.layout import Layout
from systemvm.host.zone import ImageStoreConfig, ZoneConfig
from systemvm.management.config import Configuration, ManagementConfig
from systemvm.management.hypervisors.base import DomainState, DomainStatus
from systemvm.management.inventory import write_inventory
from systemvm.management.state import addresses, instances, jobs, pods, sessions, volumes, zones
from systemvm.management.state.database import Database
from systemvm.management.state.status import InstanceState, JobStatus

RELEASE = Path(__file__).with_name("release_0_1_0")
#: Opens the secrets in the dump, which are of nobody.
SEAL_KEY = "c5191ccf47022b9ee46eb873ea1498f13845d6c83c1f838665bf5ccf8b81311e"
#: Fields whose form is CloudStack's now: ROOT instead of /, and a checksum without its algorithm.
CHANGED = {"domainpath", "checksum"}
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The file of the release's daemon."""
    path = tmp_path / "released" / "systemvm.sqlite"
    path.parent.mkdir()
    dump = (RELEASE / "dump.sql").read_text().replace("DIRECTORY", str(tmp_path))
    connection = sqlite3.connect(path)
    connection.executescript(dump)
    connection.close()
    path.with_name("seal.key").write_bytes(bytes.fromhex(SEAL_KEY))
    path.with_name("seal.key").chmod(0o600)
    return path


@pytest.fixture
def cloud(released: Path, tmp_path: Path) -> Iterator[SmallCloud]:
    """The services of now on the upgraded database, after a start with the release's zone file."""
    store = ImageStoreConfig("secondary", "nfs://10.12.0.2/export/secondary")
    zone = ZoneConfig(
        "zone1",
        NETWORKS,
        [IPv4Address("203.0.113.10")],
        internal_dns=[IPv4Address("10.11.0.2")],
        image_stores=[store],
    )
    database = Database.open(released)
    database.run_now(
        write_inventory, Configuration(Layout(tmp_path), ManagementConfig(host_name="host1"), [zone])
    )
    database.close()
    made = make(tmp_path, released)
    for volume in made.database.run_now(volumes.rows.all):
        made.primary.volume_path(volume.uuid).touch()
    yield made
    made.jobs.stop()
    made.database.close()


def rows_of(path: Path) -> Rows:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    found = {
        name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
        for (name,) in names
        if name not in ("alembic_version", "sqlite_sequence")
    }
    connection.close()
    return found


def test_each_row_is_there_with_each_value(released: Path) -> None:
    before = rows_of(released)
    assert all(before.values()), "the release has rows in each table"
    Database.open(released).close()
    after = rows_of(released)
    for table, rows in before.items():
        kept = {row["id"]: row for row in after[table]}
        for row in rows:
            now = kept[row["id"]]
            assert {name: now[name] for name in row} == row, table


@pytest_twisted.ensureDeferred
async def test_lists_have_what_the_release_answered(cloud: SmallCloud) -> None:
    await adopt(cloud)
    answers = json.loads((RELEASE / "lists.json").read_text())
    filters = {"listTemplates": "templatefilter", "listIsos": "isofilter"}
    for user, which in ((cloud.admin, "all"), (cloud.user, "self")):
        for command, before in answers[user.user.username].items():
            more = {filters[command]: which} if command in filters else {"page": 1, "pagesize": 500}
            now = await cloud.call(command, user, **more)
            for kind, rows in before.items():
                if kind == "count":
                    continue
                by_id = {row.get("id") or row["jobid"]: row for row in now[kind]}
                for row in rows:
                    assert_has(by_id[row.get("id") or row["jobid"]], row, f"{command} {row.get('name')}")


def assert_has(now: Any, before: Any, where: str) -> None:
    """Check that an answer has all fields of an earlier one, with the same values."""
    if isinstance(before, dict):
        assert before.keys() <= now.keys(), f"{where} has lost {before.keys() - now.keys()}"
        for name in before.keys() - CHANGED:
            assert_has(now[name], before[name], f"{where} {name}")
    elif isinstance(before, list):
        assert len(now) == len(before), where
        for after, earlier in zip(now, before, strict=True):
            assert_has(after, earlier, where)
    else:
        assert now == before, where


async def adopt(cloud: SmallCloud) -> None:
    """Start as the daemon does beside machines that run."""
    alive = {
        vm.instance_name: DomainStatus(vm.instance_name, vm.uuid, DomainState.RUNNING)
        for vm in cloud.database.run_now(instances.rows.all)
        if vm.state is InstanceState.RUNNING
    }
    cloud.hypervisor.statuses.update(alive)
    await cloud.machines.adopt(alive)


@pytest_twisted.ensureDeferred
async def test_machines_run_on_and_the_job_that_was_cut_off_ends(cloud: SmallCloud) -> None:
    states = {vm.name: vm.state for vm in cloud.database.run_now(instances.rows.all)}
    assert [states[name] for name in ("web", "build", "database")] == [
        InstanceState.RUNNING,
        InstanceState.RUNNING,
        InstanceState.STOPPED,
    ]
    await adopt(cloud)
    [pending] = cloud.database.run_now(jobs.pending)
    await cloud.jobs.resume_pending()
    await settled(cloud.database)
    assert cloud.database.run_now(jobs.by_id, pending.id).status is JobStatus.SUCCEEDED
    assert {vm.name: vm.state for vm in cloud.database.run_now(instances.rows.all)} == states
    assert cloud.hypervisor.specs == {}, "no machine is started"
    assert cloud.hypervisor.stops == [], "and none is stopped"


@pytest_twisted.ensureDeferred
async def test_what_the_release_made_can_be_used(cloud: SmallCloud) -> None:
    await adopt(cloud)
    vms = {vm.name: vm for vm in cloud.database.run_now(instances.rows.all)}
    assert cloud.seal.open(vms["web"].sealed_vnc_password or b"")
    assert cloud.database.run_now(sessions.by_cookie_hash, "c" * 64) is not None
    job = await cloud.job("startVirtualMachine", cloud.user, id=vms["database"].uuid)
    assert job.result_code == 0, job.result
    [root] = (await cloud.call("listVolumes", cloud.user, virtualmachineid=vms["web"].uuid))["volume"]
    assert (root["state"], root["size"], root["provisioningtype"]) == ("Ready", 1 << 20, "thin")
    for command in ("stopVirtualMachine", "startVirtualMachine"):
        job = await cloud.job(command, cloud.user, id=vms["web"].uuid)
        assert job.result_code == 0, job.result


def test_the_file_of_the_zone_is_imported(cloud: SmallCloud) -> None:
    run = cloud.database.run_now
    [zone] = run(zones.list_zones)
    assert zone.imported is not None
    assert len(run(pods.list_pods, zone.id)) == len(run(pods.list_clusters, zone.id)) == 1
    [host] = run(zones.list_hosts)
    assert host.cluster_id is not None
    for vm in (cloud.ssvm, cloud.cpvm):
        assert run(addresses.of_vm, vm.id) == {
            "control": f"169.254.0.{vm.id}",
            "management": f"10.11.0.{100 + vm.id}",
            "public": f"203.0.113.{100 + vm.id}",
        }
