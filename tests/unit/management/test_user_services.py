# SPDX-License-Identifier: Apache-2.0
"""How the daemon connects its services for users: on files of a root, with a host on which nothing runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import yaml
from attrs import frozen
from twisted.internet import reactor as default_reactor
from twisted.internet.threads import deferToThread

from settling import settled
from systemvm.host.layout import Layout
from systemvm.management import config
from systemvm.management.control_plane import make_control_plane
from systemvm.management.foundation import Foundation, open_foundation
from systemvm.management.host_drivers import make_host_drivers
from systemvm.management.samples import read_sample
from systemvm.management.snapshots.copies import COPY
from systemvm.management.state import jobs, snapshots, volumes, zones
from systemvm.management.state.status import SnapshotState
from systemvm.management.system_vm_services import make_system_vm_services
from systemvm.management.system_vms.preparation import AgentPreparation
from systemvm.management.user_services import UserServices, make_user_services

reactor: Any = default_reactor


class QuietHost:
    """Hypervisor and networks in one: no VM runs."""

    def status(self, name: str) -> None:
        return None

    def on_exit(self, callback: Any) -> None:
        """Do nothing: no VM ends."""

    async def renew_screens(self) -> None:
        """Do nothing: no VM has a screen."""

    async def close(self) -> None:
        """Do nothing: no resource is used."""


@frozen
class Parts:
    foundation: Foundation
    users: UserServices


@asynccontextmanager
async def parts_of(root: Path) -> AsyncIterator[Parts]:
    """Make the parts of a daemon for the sample's zone."""
    layout = Layout(root)
    layout.prepare()
    zone = yaml.safe_load(read_sample("zone.yaml"))
    zone["image_stores"][0]["host_path"] = str(root / "store")
    (layout.zones / "zone1.yaml").write_text(yaml.safe_dump(zone))
    layout.config_file.write_text(yaml.safe_dump({"hypervisor": {"accelerator": "tcg"}}))
    host: Any = QuietHost()
    foundation = open_foundation(config.read(layout))
    drivers = make_host_drivers(foundation, host, host)
    control = make_control_plane(reactor, foundation, drivers)
    system_vms = make_system_vm_services(reactor, foundation, drivers, control)
    users = make_user_services(reactor, foundation, drivers, control, system_vms)
    try:
        yield Parts(foundation, users)
    finally:
        await foundation.close()
        foundation.lock.close()


@pytest_twisted.ensureDeferred
async def test_system_vms_get_certificates_of_a_root_that_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    async def send_certificates(_: AgentPreparation) -> list[str]:
        sent.append(public.ca_pem)
        return []

    monkeypatch.setattr(AgentPreparation, "send_certificates", send_certificates)
    async with parts_of(tmp_path / "root") as parts:
        public = parts.foundation.public
        before = public.ca_pem
        assert not public.permits("10.99.0.1")
        parts.foundation.configuration.outside_networks["zone2"] = [IPv4Network("10.99.0.0/24")]
        assert await deferToThread(public.permits, "10.99.0.1")
        assert public.ca_pem != before
        await settled(parts.foundation.database)
        assert sent == [public.ca_pem]


@pytest_twisted.ensureDeferred
async def test_a_copy_of_a_snapshot_without_a_job_gets_one_at_the_start(tmp_path: Path) -> None:
    async with parts_of(tmp_path / "root") as parts:
        run, host = parts.foundation.database.run_now, parts.foundation.host
        [store] = run(zones.list_stores)
        owner: dict[str, Any] = {
            "account_id": 1,
            "domain_id": 1,
            "zone_id": store.zone_id,
            "host_id": host.id,
        }
        volume = run(volumes.rows.insert, name="data", **owner)
        taken = {"volume_id": volume.id, "store_id": store.id, **owner}
        source = run(snapshots.insert, name="one", state=SnapshotState.BACKED_UP, **taken)
        copy = run(snapshots.insert, name="one", state=SnapshotState.COPYING, copy_of=source.id, **taken)
        await parts.users.start()
        parts.users.stop()
        found = [(job.command, job.instance_uuid) for job in run(jobs.list_all)]
        assert found == [(COPY, copy.uuid)]
