# SPDX-License-Identifier: Apache-2.0
"""Destroy, recover, expunge and forced deletion with a real daemon, real QEMU machines and SIGKILL."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest
import yaml
from cs import CloudStack, CloudStackApiException

from integration.api_lab import api_of, deployment, machine, open_files
from integration.daemon_lab import Host, host, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

__all__ = ["host"]  # the fixture


def configure(host: Host, **expunge: float) -> None:
    management = yaml.safe_load(host.layout.config_file.read_text())
    host.layout.config_file.write_text(yaml.safe_dump(management | {"expunge": expunge}))


def deployed_disk(host: Host, api: CloudStack, name: str, values: dict[str, str]) -> tuple[str, Path]:
    vm = api.deployVirtualMachine(name=name, **values)["virtualmachine"]
    [disk] = [Path(path) for path in open_files(host.pids()[vm["instancename"]]) if "/volumes/" in path]
    return vm["id"], disk


def test_a_destroyed_machine_outlives_kills_of_the_daemon_until_its_expunge_time(host: Host) -> None:
    configure(host, delay=3600.0, interval=1.0)
    host.start()
    host.both_running()
    client = api_of(host)
    api = client()
    values = deployment(host, api)
    vm_id, disk = deployed_disk(host, api, "one", values)
    instance = machine(api, "one")["instancename"]

    # the daemon is killed during the job, and completes it after its restart
    api.destroyVirtualMachine(id=vm_id, fetch_result=False)
    host.end(signal.SIGKILL)
    host.start()
    until(lambda: machine(client(), "one")["state"] == "Destroyed", "destroyed machine")
    assert instance not in host.pids()
    assert disk.exists()
    content = disk.read_bytes()

    api = client()
    with pytest.raises(CloudStackApiException) as refused:
        api.startVirtualMachine(id=vm_id)
    assert refused.value.error["errorcode"] == 431
    assert api.recoverVirtualMachine(id=vm_id)["virtualmachine"]["state"] == "Stopped"
    assert disk.read_bytes() == content
    assert api.startVirtualMachine(id=vm_id)["virtualmachine"]["state"] == "Running"
    assert api.destroyVirtualMachine(id=vm_id)["virtualmachine"]["state"] == "Destroyed"

    # the daemon was killed between two steps of an expunge, whose time came while no daemon ran
    host.end(signal.SIGKILL)
    with sqlite3.connect(host.layout.database, timeout=60) as connection:
        connection.execute(
            "UPDATE vm_instances SET state = 'Expunging', expunge_at = '2020-01-01 00:00:00.000000'"
            " WHERE uuid = ?",
            (vm_id,),
        )
    host.start()
    until(lambda: client().listVirtualMachines() == {}, "end of the expunged machine")
    assert not disk.exists()


def test_clones_outlive_a_template_deleted_by_force(host: Host) -> None:
    host.start()
    host.both_running()
    api = api_of(host)()
    values = deployment(host, api)
    vm_id, _ = deployed_disk(host, api, "one", values)
    never_started = api.deployVirtualMachine(name="two", startvm="false", **values)["virtualmachine"]["id"]
    with pytest.raises(CloudStackApiException, match=r"because VM instances: \[one, two\] are using it"):
        api.deleteTemplate(id=values["templateid"])
    assert api.deleteTemplate(id=values["templateid"], forced=True)["success"]
    assert not api.listTemplates(templatefilter="all", id=values["templateid"])
    # as an SSVM does
    for path in (host.layout.root / "store").rglob("disk.qcow2"):
        path.unlink()
    api.stopVirtualMachine(id=vm_id, forced=True)
    for one in (vm_id, never_started):
        assert api.startVirtualMachine(id=one)["virtualmachine"]["state"] == "Running"
