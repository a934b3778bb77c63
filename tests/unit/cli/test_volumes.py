# SPDX-License-Identifier: Apache-2.0
"""`systemvm volume`."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from fake_daemon import FakeDaemon


def test_volumes_are_created_attached_resized_and_deleted(run: Callable[..., Result]) -> None:
    volume = {
        "id": "d-1",
        "name": "data",
        "type": "DATADISK",
        "state": "Ready",
        "size": 2 << 30,
        "deviceid": 1,
    }
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        listVolumes={"volume": [volume | {"vmdisplayname": "web"}]},
        listVirtualMachines={"virtualmachine": [{"id": "m-1", "name": "web"}]},
        createVolume={"jobid": "j-1"},
        attachVolume={"jobid": "j-1"},
        detachVolume={"jobid": "j-1"},
        resizeVolume={"jobid": "j-1"},
        deleteVolume={"success": True},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"volume": volume}},
    )
    assert "2.0 GiB" in (listed := run(fake, "volume", "list").output), listed
    assert "data is Ready." in run(fake, "volume", "create", "data", "--size", "2").output
    assert run(fake, "volume", "attach", "data", "web").output == "data is attached to web as device 1.\n"
    assert run(fake, "volume", "detach", "data").output == "data is detached.\n"
    assert run(fake, "volume", "resize", "data", "--size", "4").output == "data has 4 GiB.\n"
    assert run(fake, "volume", "delete", "--yes", "data").output == "data is deleted.\n"
    changes = [call for call in fake.calls if call[0].endswith("Volume")]
    assert changes == [
        ("createVolume", {"name": "data", "size": 2, "zoneid": "z-1"}),
        ("attachVolume", {"id": "d-1", "virtualmachineid": "m-1"}),
        ("detachVolume", {"id": "d-1"}),
        ("resizeVolume", {"id": "d-1", "size": 4}),
        ("deleteVolume", {"id": "d-1"}),
    ]


def test_a_volume_is_created_by_a_disk_offering(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1", "name": "zone1"}]},
        listDiskOfferings={"diskoffering": [{"id": "o-1", "name": "d20"}]},
        createVolume={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"volume": {"id": "d-1"}}},
    )
    assert "data is Ready." in run(fake, "volume", "create", "data", "--offering", "d20").output
    [created] = [params for command, params in fake.calls if command == "createVolume"]
    assert created == {"name": "data", "diskofferingid": "o-1", "zoneid": "z-1"}
    assert "give --size or --offering" in run(fake, "volume", "create", "data").output


def test_a_volume_is_registered_by_its_url(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1", "name": "zone1"}]},
        uploadVolume={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"volume": {"id": "d-9"}}},
    )
    url = "https://images.example.test/data.qcow2"
    assert "data is being downloaded: d-9\n" in run(fake, "volume", "register", "data", url).output
    [order] = [params for name, params in fake.calls if name == "uploadVolume"]
    assert order == {"name": "data", "url": url, "format": "QCOW2", "zoneid": "z-1"}
