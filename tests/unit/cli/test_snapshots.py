# SPDX-License-Identifier: Apache-2.0
"""`systemvm snapshot`."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from fake_daemon import FakeDaemon


def test_snapshots_are_taken_listed_restored_and_deleted(run: Callable[..., Result]) -> None:
    snapshot = {
        "id": "s-1", "name": "before", "state": "BackedUp", "volumename": "ROOT-3", "zoneid": "z-1",
        "physicalsize": 3 << 20, "parentid": "s-0",
    }  # fmt: skip
    failed = {"id": "s-2", "name": "late", "state": "Error", "volumename": "ROOT-3"}
    failed |= {"reason": "It ended.", "hint": "Retry."}
    fake = FakeDaemon(
        listVolumes={"volume": [{"id": "d-1", "name": "ROOT-3"}]},
        listSnapshots={"snapshot": [snapshot, failed]},
        createSnapshot={"jobid": "j-1"},
        revertSnapshot={"jobid": "j-1"},
        deleteSnapshot={"jobid": "j-1"},
        createVolume={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"snapshot": snapshot}},
    )
    listed = run(fake, "snapshot", "list", "--volume", "ROOT-3").output
    assert "increment" in listed and "3.0 MiB" in listed
    assert "late: It ended.\n  hint: Retry." in listed
    created = run(fake, "snapshot", "create", "ROOT-3", "--name", "before").output
    assert created.endswith("before is BackedUp: an increment, 3.0 MiB moved.\n")
    run(fake, "snapshot", "create", "ROOT-3", "--quiesce")
    assert (
        "ROOT-3 has the content of before again." in run(fake, "snapshot", "revert", "--yes", "before").output
    )
    assert "old is Ready." in run(fake, "snapshot", "restore", "before", "old", "--size", "5").output
    assert "before is deleted." in run(fake, "snapshot", "delete", "--yes", "before").output
    changes = [call for call in fake.calls if not call[0].startswith(("list", "query"))]
    assert changes == [
        ("createSnapshot", {"volumeid": "d-1", "name": "before"}),
        ("createSnapshot", {"volumeid": "d-1", "quiescevm": "true"}),
        ("revertSnapshot", {"id": "s-1"}),
        ("createVolume", {"name": "old", "snapshotid": "s-1", "size": 5, "zoneid": "z-1"}),
        ("deleteSnapshot", {"id": "s-1"}),
    ]
    assert ("listSnapshots", {"volumeid": "d-1", "listall": "true"}) in fake.calls


def test_policies_are_set_listed_and_deleted(run: Callable[..., Result]) -> None:
    policy = {
        "id": "p-1", "volumeid": "d-1", "intervaltype": 1, "schedule": "30:02", "timezone": "Europe/Berlin",
        "maxsnaps": 7, "nextrun": "2026-11-30T01:30:00+0000",
    }  # fmt: skip
    fake = FakeDaemon(
        listVolumes={"volume": [{"id": "d-1", "name": "ROOT-3"}]},
        listSnapshotPolicies={"snapshotpolicy": [policy]},
        createSnapshotPolicy={"snapshotpolicy": policy},
        deleteSnapshotPolicies={"success": True},
    )
    change = ("snapshot", "policy", "set", "ROOT-3", "daily", "30:02", "--keep", "7")
    assert "due at 2026-11-30T01:30" in run(fake, *change, "--timezone", "Europe/Berlin").output
    listed = run(fake, "snapshot", "policy", "list").output
    assert all(word in listed for word in ("ROOT-3", "daily", "30:02", "2026-11-30T01:30"))
    assert "no daily policy any more" in run(fake, "snapshot", "policy", "delete", "ROOT-3", "daily").output
    missing = run(fake, "snapshot", "policy", "delete", "ROOT-3", "weekly")
    assert (missing.exit_code, "ROOT-3 has no weekly policy" in missing.output) == (2, True)
    assert [call for call in fake.calls if not call[0].startswith("list")] == [
        (
            "createSnapshotPolicy",
            {
                "volumeid": "d-1", "intervaltype": "daily", "schedule": "30:02", "timezone": "Europe/Berlin",
                "maxsnaps": 7,
            },
        ),
        ("deleteSnapshotPolicies", {"ids": "p-1"}),
    ]  # fmt: skip


def test_templates_and_links_are_made_of_snapshots_and_volumes(run: Callable[..., Result]) -> None:
    link = {
        "url": "https%3A%2F%2F203.0.113.101%2Fuserdata%2Fx%2Fbefore.qcow2",
        "expires": "2026-11-28T20:00:00",
    }
    result = {"template": {"id": "t-1", "name": "golden"}, "snapshot": link, "volume": link}
    fake = FakeDaemon(
        listVolumes={"volume": [{"id": "d-1", "name": "ROOT-3"}]},
        listSnapshots={"snapshot": [{"id": "s-1", "name": "before"}]},
        createTemplate={"jobid": "j-1"},
        extractSnapshot={"jobid": "j-1"},
        extractVolume={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": result},
    )
    made = run(fake, "template", "create", "golden", "--snapshot", "before", "--public")
    assert made.exit_code == 0 and "golden is Ready: t-1\n" in made.output, made.output
    assert run(fake, "template", "create", "golden", "--volume", "ROOT-3").exit_code == 0
    assert run(fake, "template", "create", "golden").exit_code == 2
    for words in (("snapshot", "export", "before"), ("volume", "export", "ROOT-3")):
        assert "https://203.0.113.101/userdata/x/before.qcow2\n" in run(fake, *words).output
    changes = [call for call in fake.calls if not call[0].startswith(("list", "query"))]
    assert changes == [
        ("createTemplate", {"name": "golden", "ispublic": "true", "snapshotid": "s-1"}),
        ("createTemplate", {"name": "golden", "volumeid": "d-1"}),
        ("extractSnapshot", {"id": "s-1"}),
        ("extractVolume", {"id": "d-1", "mode": "HTTP_DOWNLOAD"}),
    ]


def test_a_snapshot_is_copied_and_found_beside_its_copy(run: Callable[..., Result]) -> None:
    source = {"id": "s-1", "name": "before", "state": "BackedUp", "volumename": "d", "zonename": "zone1"}
    copy = source | {"id": "s-2", "zonename": "zone2", "copyof": "s-1"}
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1", "name": "zone1"}, {"id": "z-2", "name": "zone2"}]},
        listSnapshots={"snapshot": [source, copy]},
        copySnapshot={"jobid": "j-1"},
        deleteSnapshot={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"snapshot": copy}},
    )
    assert run(fake, "snapshot", "copy", "before", "zone2").output.endswith("before is in zone2.\n")
    lines = run(fake, "snapshot", "list").output.splitlines()
    assert [("zone2" in line, "copy" in line) for line in lines if "before" in line] == [
        (False, False),
        (True, True),
    ]
    assert "s-2 is deleted." in run(fake, "snapshot", "delete", "--yes", "s-2").output
    changes = [call for call in fake.calls if not call[0].startswith(("list", "query"))]
    assert changes == [
        ("copySnapshot", {"id": "s-1", "destzoneids": ["z-2"]}),
        ("deleteSnapshot", {"id": "s-2"}),
    ]
