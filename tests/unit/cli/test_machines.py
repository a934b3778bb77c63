# SPDX-License-Identifier: Apache-2.0
"""`systemvm vm` and `systemvm console`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from fake_daemon import FakeDaemon


def test_machines_of_all_users_are_listed_and_found(run: Callable[..., Result]) -> None:
    machine: dict[str, Any] = {
        "id": "m-1", "name": "web", "instancename": "i-2-3-VM", "state": "Stopped", "isoname": "ipxe",
        "nic": [{}, {"ipaddress": "10.13.0.50"}],
    }  # fmt: skip
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [machine | {"reason": "It ended.", "hint": "Start it."}]},
        destroyVirtualMachine={"jobid": "j-1"},
        recoverVirtualMachine={"virtualmachine": machine},
        expungeVirtualMachine={"jobid": "j-1"},
        rebootVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
    )
    listed = run(fake, "vm", "list")
    assert "i-2-3-VM" in listed.output
    assert "10.13.0.50" in listed.output
    assert "web: It ended.\n  hint: Start it." in listed.output
    assert run(fake, "vm", "destroy", "--yes", "web").output == "web is destroyed.\n"
    assert fake.calls == [
        ("listVirtualMachines", {"listall": "true"}),
        ("listVirtualMachines", {"listall": "true"}),
        ("destroyVirtualMachine", {"id": "m-1", "expunge": "false"}),
        ("queryAsyncJobResult", {"jobid": "j-1"}),
    ]
    assert "recovered" in run(fake, "vm", "recover", "web").output
    assert run(fake, "vm", "expunge", "--yes", "web").output == "web is expunged.\n"
    assert "expunged" in run(fake, "vm", "destroy", "--yes", "--expunge", "web").output
    assert run(fake, "vm", "reboot", "web").output == "web is Running.\n"
    changes = [call for call in fake.calls if call[0] not in ("listVirtualMachines", "queryAsyncJobResult")]
    assert changes[1:] == [
        ("recoverVirtualMachine", {"id": "m-1"}),
        ("expungeVirtualMachine", {"id": "m-1"}),
        ("destroyVirtualMachine", {"id": "m-1", "expunge": "true"}),
        ("rebootVirtualMachine", {"id": "m-1", "forced": "false"}),
    ]


def test_a_machine_is_deployed_with_the_keyboard_of_its_guest(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listTemplates={"template": [{"id": "t-1", "name": "tiny", "zoneid": "z-1"}]},
        listServiceOfferings={"serviceoffering": [{"id": "o-1", "name": "small"}]},
        deployVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"virtualmachine": {"state": "Running"}}},
    )
    for options in ([], ["--keyboard", "sc"]):
        assert "web is Running" in run(fake, "vm", "deploy", "web", "--template", "tiny", *options).output
    deployed = [call[1].get("keyboard") for call in fake.calls if call[0] == "deployVirtualMachine"]
    assert deployed == [None, "sc"]


def test_a_machine_is_deployed_with_its_firmware_on_a_host_by_name(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listTemplates={"template": [{"id": "t-1", "name": "tiny", "zoneid": "z-1"}]},
        listServiceOfferings={"serviceoffering": [{"id": "o-1", "name": "small"}]},
        listHosts={"host": [{"id": "h-1", "name": "host1"}]},
        deployVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"virtualmachine": {"state": "Running"}}},
    )
    deploy = ("vm", "deploy", "web", "--template", "tiny")
    for options in ((), ("--boot-type", "uefi", "--host", "host1")):
        assert "web is Running" in run(fake, *deploy, *options).output
    deployed = [call[1] for call in fake.calls if call[0] == "deployVirtualMachine"]
    assert [(call.get("boottype"), call.get("hostid")) for call in deployed] == [
        (None, None),
        ("UEFI", "h-1"),
    ]
    assert run(fake, *deploy, "--boot-type", "coreboot").exit_code != 0
    assert run(fake, *deploy, "--host", "other").exit_code != 0


def test_a_password_is_shown_when_it_is_made(run: Callable[..., Result]) -> None:
    machine = {"id": "m-1", "name": "web", "state": "Running", "password": "a2b3c4"}
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [machine]},
        listTemplates={"template": [{"id": "t-1", "name": "tiny", "zoneid": "z-1"}]},
        listServiceOfferings={"serviceoffering": [{"id": "o-1", "name": "small"}]},
        deployVirtualMachine={"jobid": "j-1"},
        resetPasswordForVirtualMachine={"jobid": "j-2"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"virtualmachine": machine}},
    )
    shown = "Its password is a2b3c4 and is not shown again.\n"
    assert run(fake, "vm", "deploy", "web", "--template", "tiny").output.endswith(shown)
    assert run(fake, "vm", "reset-password", "web").output == shown
    assert ("resetPasswordForVirtualMachine", {"id": "m-1"}) in fake.calls


def test_a_machine_is_deployed_with_an_address_and_user_data(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    fake = FakeDaemon(
        listTemplates={"template": [{"id": "t-1", "name": "tiny", "zoneid": "z-1"}]},
        listServiceOfferings={"serviceoffering": [{"id": "o-1", "name": "small"}]},
        deployVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"virtualmachine": {"state": "Running"}}},
    )
    file = tmp_path / "data"
    file.write_bytes(b"#cloud-config\n\xff")
    options = ("--address", "10.13.0.60", "--user-data", str(file))
    run(fake, "vm", "deploy", "web", "--template", "tiny", *options)
    [deployed] = [call[1] for call in fake.calls if call[0] == "deployVirtualMachine"]
    assert (deployed["ipaddress"], deployed["userdata"]) == ("10.13.0.60", "I2Nsb3VkLWNvbmZpZwr/")


def test_a_machine_is_deployed_on_networks_by_their_names(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listTemplates={"template": [{"id": "t-1", "name": "tiny", "zoneid": "z-1"}]},
        listServiceOfferings={"serviceoffering": [{"id": "o-1", "name": "small"}]},
        listNetworks={"network": [{"id": "n-1", "name": "front"}, {"id": "n-2", "name": "backend"}]},
        deployVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"virtualmachine": {"state": "Running"}}},
    )
    run(fake, "vm", "deploy", "web", "--template", "tiny", "--network", "backend", "--network", "n-1")
    run(fake, "vm", "deploy", "web", "--template", "tiny")
    deployed = [call[1].get("networkids") for call in fake.calls if call[0] == "deployVirtualMachine"]
    assert deployed == ["n-2,n-1", None]
    assert run(fake, "vm", "deploy", "web", "--template", "tiny", "--network", "other").exit_code != 0


def test_an_iso_is_attached_and_detached_by_names(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [{"id": "m-1", "name": "web"}]},
        listIsos={"iso": [{"id": "i-1", "name": "drivers"}]},
        attachIso={"jobid": "j-1"},
        detachIso={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
    )
    assert run(fake, "vm", "attach-iso", "web", "drivers").output == "drivers is attached to web.\n"
    assert run(fake, "vm", "detach-iso", "web", "--forced").output == "the ISO of web is detached.\n"
    changes = [call for call in fake.calls if call[0] in ("attachIso", "detachIso")]
    assert changes == [
        ("attachIso", {"id": "i-1", "virtualmachineid": "m-1", "forced": "false"}),
        ("detachIso", {"virtualmachineid": "m-1", "forced": "true"}),
    ]
    assert run(fake, "vm", "attach-iso", "web", "other").exit_code != 0


def test_the_volumes_of_a_machine_are_moved(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [{"id": "m-1", "name": "web"}]},
        listStoragePools={"storagepool": [{"id": "p-1", "name": "shared"}]},
        migrateVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
    )
    assert run(fake, "vm", "migrate", "web", "shared").output == "the volumes of web are in shared.\n"
    assert ("migrateVirtualMachine", {"virtualmachineid": "m-1", "storageid": "p-1"}) in fake.calls


def test_a_machine_is_restored_from_its_template_or_another_image(run: Callable[..., Result]) -> None:
    machine = {"id": "m-1", "name": "web", "state": "Running", "password": "a2b3c4"}
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [machine]},
        listTemplates={"template": [{"id": "t-1", "name": "tiny"}]},
        listIsos={"iso": [{"id": "i-1", "name": "cd"}]},
        restoreVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"virtualmachine": machine}},
    )
    shown = "web has a new root disk and is Running.\nIts password is a2b3c4 and is not shown again.\n"
    for options in ([], ["--template", "tiny"], ["--iso", "cd"]):
        assert run(fake, "vm", "restore", "web", "--yes", *options).output == shown
    restored = [call[1].get("templateid") for call in fake.calls if call[0] == "restoreVirtualMachine"]
    assert restored == [None, "t-1", "i-1"]
    assert run(fake, "vm", "restore", "web", "--yes", "--template", "tiny", "--iso", "cd").exit_code == 2
    assert run(fake, "vm", "restore", "web").exit_code == 1, "nobody has confirmed it"
    assert len([call for call in fake.calls if call[0] == "restoreVirtualMachine"]) == 3


def test_a_machine_gets_another_name_and_other_user_data(run: Callable[..., Result], tmp_path: Path) -> None:
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [{"id": "m-1", "name": "web"}]},
        updateVirtualMachine={"virtualmachine": {"id": "m-1"}},
    )
    (tmp_path / "data").write_bytes(b"#cloud-config\n")
    changes = ("--name", "front", "--user-data", str(tmp_path / "data"))
    assert run(fake, "vm", "update", "web", *changes).output == "web is changed.\n"
    expected = {"id": "m-1", "displayname": "front", "userdata": "I2Nsb3VkLWNvbmZpZwo="}
    assert fake.calls[-1] == ("updateVirtualMachine", expected)
    refused = run(fake, "vm", "update", "web")
    assert refused.exit_code == 2
    assert "--name" in refused.output


def test_a_machine_is_given_another_offering(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [{"id": "m-1", "name": "web"}]},
        listServiceOfferings={
            "serviceoffering": [{"id": "o-1", "name": "small"}, {"id": "o-2", "name": "big"}]
        },
        scaleVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
    )
    shown = "web has the offering big from its next start.\n"
    assert run(fake, "vm", "scale", "web", "--offering", "big").output == shown
    assert ("scaleVirtualMachine", {"id": "m-1", "serviceofferingid": "o-2"}) in fake.calls
    refused = run(fake, "vm", "scale", "web", "--offering", "huge")
    assert refused.exit_code != 0
    assert "choose one of these: small, big" in refused.output
