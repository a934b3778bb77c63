# SPDX-License-Identifier: Apache-2.0
"""Users' VMs through the API of a real daemon, with real clones, real QEMU processes and SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from cs import CloudStackApiException

from integration.api_lab import api_of, deployment, machine, make_ready, open_files
from integration.daemon_lab import Host, host, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

__all__ = ["host"]  # the fixture


def isos_of(pid: int) -> list[str]:
    """Return the names of the ISOs that a machine has open."""
    return [Path(path).name for path in open_files(pid) if path.endswith(".iso")]


def test_a_vm_is_a_real_clone_that_outlives_the_daemon(host: Host) -> None:
    host.start()
    host.both_running()
    client = api_of(host)
    api = client()
    with pytest.raises(CloudStackApiException):
        api.deployVirtualMachine(zoneid="x", templateid="x", serviceofferingid="x")
    values = deployment(host, api)

    vm = api.deployVirtualMachine(name="one", **values)["virtualmachine"]
    assert (vm["state"], vm["templatename"]) == ("Running", "blank")
    pid = host.pids()[vm["instancename"]]
    [disk] = [Path(path) for path in open_files(pid) if "/volumes/" in path]
    info = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", disk], check=True, capture_output=True, timeout=120
    )
    backing = Path(json.loads(info.stdout)["backing-filename"])
    assert backing.name == f"{values['templateid']}.qcow2"
    assert backing.stat().st_mode & 0o222 == 0, "the template is read-only"
    command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"10.11.0.1:" in command_line
    assert b"password=on" in command_line or b"password-secret" in command_line

    iso = api.registerIso(
        name="drivers", url="http://images.example.test/drivers.iso", zoneid=values["zoneid"]
    )["iso"][0]["id"]
    make_ready(host, iso)
    assert api.attachIso(id=iso, virtualmachineid=vm["id"])["virtualmachine"]["isoid"] == iso
    assert isos_of(pid) == [f"{iso}.iso"]

    console = api.createConsoleEndpoint(virtualmachineid=vm["id"])["consoleendpoint"]
    assert (console["success"], "Please try it again later" in console["details"]) == (False, True)

    host.end(signal.SIGKILL)
    assert host.pids()[vm["instancename"]] == pid
    host.start()
    assert machine(client(), "one")["state"] == "Running"
    assert host.pids()[vm["instancename"]] == pid
    assert (machine(client(), "one")["isoid"], isos_of(pid)) == (iso, [f"{iso}.iso"])

    os.kill(pid, signal.SIGKILL)
    until(lambda: machine(client(), "one")["state"] == "Stopped", "record of the machine's end")
    assert machine(client(), "one")["reason"]

    api = client()
    assert api.startVirtualMachine(id=vm["id"])["virtualmachine"]["state"] == "Running"
    pid = host.pids()[vm["instancename"]]
    assert isos_of(pid) == [f"{iso}.iso"]
    with pytest.raises(CloudStackApiException, match="Unable to delete ISO"):
        api.deleteIso(id=iso)
    assert "isoid" not in api.detachIso(virtualmachineid=vm["id"])["virtualmachine"]
    assert isos_of(pid) == []
    assert api.stopVirtualMachine(id=vm["id"], forced=True)["virtualmachine"]["state"] == "Stopped"
    assert vm["instancename"] not in host.pids()

    small = api.listServiceOfferings(name="small")["serviceoffering"][0]["id"]
    scaled = api.changeServiceForVirtualMachine(id=vm["id"], serviceofferingid=small)["virtualmachine"]
    assert scaled["memory"] == 512
    restored = api.restoreVirtualMachine(virtualmachineid=vm["id"])["virtualmachine"]
    assert (restored["state"], disk.exists()) == ("Stopped", False)
    assert api.startVirtualMachine(id=vm["id"])["virtualmachine"]["state"] == "Running"
    pid = host.pids()[vm["instancename"]]
    [disk] = [Path(path) for path in open_files(pid) if "/volumes/" in path]
    assert b"512M" in Path(f"/proc/{pid}/cmdline").read_bytes()

    api.stopVirtualMachine(id=vm["id"], forced=True)
    api.destroyVirtualMachine(id=vm["id"], expunge=True)
    assert not disk.exists()
    assert backing.exists()


def test_jobs_and_waiting_templates_outlive_a_kill(host: Host) -> None:
    host.start()
    host.both_running()
    client = api_of(host)
    api = client()
    values = deployment(host, api)
    waiting = api.registerTemplate(
        name="later",
        url="http://images.example.test/later.qcow2",
        format="QCOW2",
        hypervisor="KVM",
        zoneid=values["zoneid"],
    )["template"][0]
    job = api.deployVirtualMachine(name="two", fetch_result=False, **values)["jobid"]
    host.end(signal.SIGKILL)
    host.start()
    result = until(
        lambda: (row := client().queryAsyncJobResult(jobid=job, fetch_result=False))["jobstatus"] and row,
        "end of the job",
    )
    assert (result["jobstatus"], result["jobresult"]["virtualmachine"]["state"]) == (1, "Running")
    templates = {row["name"]: row for row in client().listTemplates(templatefilter="all")["template"]}
    assert templates["blank"]["status"] == "Download Complete"
    assert templates["later"]["id"] == waiting["id"]
    assert templates["later"]["status"] == "0% Downloaded"
    until(
        lambda: any(
            "secondary storage VM" in row.get("hint", "")
            for row in client().listTemplates(templatefilter="all", id=waiting["id"])["template"]
        ),
        "reason for which the template waits",
    )

    file = make_ready(host, waiting["id"])
    file.unlink()
    os.mkfifo(file)  # whoever opens it hangs, as on a store that does not answer
    api = client()
    values["templateid"] = waiting["id"]
    job = api.deployVirtualMachine(name="three", fetch_result=False, **values)["jobid"]
    until(lambda: machine(api, "three")["state"] == "Starting", "start of the machine")
    destroyed = api.destroyVirtualMachine(id=machine(api, "three")["id"])["virtualmachine"]
    assert destroyed["state"] == "Destroyed"
    failed = until(
        lambda: (row := api.queryAsyncJobResult(jobid=job, fetch_result=False))["jobstatus"] and row,
        "end of the job",
    )
    assert "was destroyed meanwhile" in failed["jobresult"]["errortext"]
    store = os.open(file, os.O_RDWR | os.O_NONBLOCK)
    file.unlink()
    os.close(store)  # who hangs reads an end
