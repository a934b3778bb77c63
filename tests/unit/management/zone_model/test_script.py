# SPDX-License-Identifier: Apache-2.0
"""docs/zone-by-api.sh, through the command line to the commands, makes the zone of the sample file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import pytest_twisted
from click.testing import CliRunner
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import blockingCallFromThread, deferToThread

from prepared_database import open_first_start
from systemvm.cli import __main__ as program
from systemvm.cli import daemon_client
from systemvm.host.config_file import load
from systemvm.host.host_file import FILE_NAME
from systemvm.host.layout import Layout
from systemvm.host.zone import TrafficType, ZoneConfig
from systemvm.management import config as configuration_files
from systemvm.management import samples
from systemvm.management.api import envelope
from systemvm.management.api.authentication import principal_of
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.address_ranges import RANGES
from systemvm.management.api.commands.hosts import HostCommands
from systemvm.management.api.commands.infrastructure import InfrastructureCommands
from systemvm.management.api.commands.jobs import JobCommands
from systemvm.management.api.commands.model_commands import commands_of
from systemvm.management.api.commands.physical_networks import NETWORKS
from systemvm.management.api.commands.places import PLACES
from systemvm.management.api.commands.zones import ZoneCommands
from systemvm.management.api.job_start import describe_job_error
from systemvm.management.config import Configuration, ManagementConfig
from systemvm.management.foreign_hosts.service import ForeignHosts
from systemvm.management.inventory import write_inventory
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, address_ranges, instances, pods, zones
from systemvm.management.state.database import Database
from systemvm.management.system_vms.allocation import allocate
from systemvm.management.zone_model.catalog import ZoneCatalog
from systemvm.management.zone_model.changes import ModelChanges
from systemvm.wire.role import Role

DOCS = Path(__file__).resolve().parents[4] / "docs"
SCRIPT, GROWTH = DOCS / "zone-by-api.sh", DOCS / "zone-growth-by-api.sh"
SAMPLE = load(Path(samples.__file__).with_name("zone.yaml"), ZoneConfig)
#: Of the label of public traffic in the sample, where it is a comment.
VLANS = "# vlans: [200-299]"
#: Stands for the command line while the script runs: it records its arguments.
RECORDER = "import json, os, sys; open(os.environ['RECORD'], 'a').write(json.dumps(sys.argv[1:]) + '\\n')"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    layout = Layout(tmp_path)
    layout.make()
    database = open_first_start(layout.database, layout.pki)
    yield database
    database.close()


def lines_of_script(script: Path, directory: Path) -> list[list[str]]:
    """Return the arguments of each call of the command line."""
    recorder, record = directory / "recorder.py", directory / f"{script.stem}-calls"
    recorder.write_text(RECORDER)
    wanted = {"SYSTEMVM": f"{sys.executable} {recorder}", "RECORD": str(record), "HOST_NAME": "host1"}
    subprocess.run([script], env=os.environ | wanted, check=True, timeout=300)
    return [json.loads(line) for line in record.read_text().splitlines()]


class Cloud:
    """A host without a zone, with the commands that the script uses."""

    def __init__(self, layout: Layout, database: Database) -> None:
        described = samples.read_sample("host.yaml")
        assert VLANS in described
        (layout.etc / FILE_NAME).write_text(described.replace(VLANS, VLANS.removeprefix("# ")))
        read = configuration_files.read(layout)
        management = ManagementConfig(host_name="host1")
        self.database = database
        self.configuration = Configuration(layout, management, read.zones, read.labels)
        self.host = database.run_now(write_inventory, self.configuration)
        catalog = ZoneCatalog(self.configuration)
        database.run_now(catalog.load)
        changes = ModelChanges(database, catalog, self.configuration.labels, lambda: None)
        self.table = CommandTable()
        jobs = JobRunner(database, Clock(), partial(describe_job_error, self.table))
        self.table.add(
            *ZoneCommands(database, management.expunge).commands(),
            *InfrastructureCommands(database).commands(),
            *HostCommands(database, cast(ForeignHosts, None), jobs, changes).commands(),
            *JobCommands(database, Seal(bytes(32))).commands(),
            *commands_of((*PLACES, *NETWORKS, *RANGES), changes, jobs),
        )

    def __call__(self, path: str, method: str, params: dict[str, Any], timeout_s: float = 30) -> Any:
        """Answer the command line, which runs in a thread."""
        if method == "addImageStore":  # tests/unit/management/image_stores
            return {"imagestore": {"id": "store", "name": params["name"]}}
        if method == "createStoragePool":  # tests/unit/management/api/test_storage_pools.py
            return {"storagepool": {"id": "pool", "name": params["name"]}}
        return blockingCallFromThread(
            cast(Any, reactor), lambda: Deferred.fromCoroutine(self._call(method, params))
        )

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        command = self.table.find(method)
        admin = self.database.run_now(
            lambda c: principal_of(c, cast(accounts.User, accounts.user_by_name(c, "admin")))
        )
        assert admin is not None
        return envelope.result_body(command, await command.run(admin, params, "192.0.2.1", "request-1"))


async def obey(lines: list[list[str]]) -> None:
    for arguments in lines:
        result = await deferToThread(CliRunner().invoke, program.main, ["--root", "/nowhere", *arguments])
        assert result.exit_code == 0, (arguments, result.output)


@pytest_twisted.ensureDeferred
async def test_each_line_of_the_script_is_obeyed(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(Layout(tmp_path), database)
    monkeypatch.setattr(daemon_client, "unix_call", cloud)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(program, "restore_sigint", lambda: None)  # it works in the main thread only
    await obey(lines_of_script(SCRIPT, tmp_path))

    [zone] = database.run_now(zones.list_zones)
    assert zone.allocation_state == "Enabled"
    made = cloud.configuration.zone("zone1").networks
    for kind, wanted in SAMPLE.networks.by_type().items():
        if kind.value == "control":
            continue
        found = made.by_type()[kind]
        assert found == msgspec.structs.replace(wanted, gateway=wanted.router), kind
    assert made.control.host_address == SAMPLE.networks.control.host_address

    for role in (Role.SSVM, Role.CPVM):
        config = cloud.configuration.zone("zone1")
        database.run_now(allocate, zone, config, role, cloud.host.id, cloud.configuration.labels)
    bridges = [
        [nic.bridge for nic in database.run_now(instances.nics_of, vm.id)]
        for vm in database.run_now(instances.list_system)
    ]
    assert bridges == [["cloud0", "cloudbr1", "cloudbr0", "cloudbr2"], ["cloud0", "cloudbr1", "cloudbr0"]]

    await obey(lines_of_script(GROWTH, tmp_path))
    ranges = database.run_now(address_ranges.list_ranges, zone.id, TrafficType.PUBLIC)
    assert [(str(each.cidr), each.vlan) for each in ranges] == [
        ("203.0.113.0/24", None),
        ("198.51.100.0/24", 200),
    ]
    assert [pod.name for pod in database.run_now(pods.list_pods, zone.id)] == ["pod1", "pod2"]
