# SPDX-License-Identifier: Apache-2.0
"""A booted machine on the guest network: its address by DHCP, its user data and its password."""

from __future__ import annotations

import base64
import hashlib
from ipaddress import IPv4Address
from typing import Any

import pytest

from booted_cloud import BootedCloud, wait_for
from systemvm.lab.plan import NETWORKS

pytestmark = pytest.mark.cloud

USER_DATA = b"#!/bin/sh\necho hello\n"


def said(cloud: BootedCloud, machine: dict[str, Any]) -> list[str]:
    """Return what the guest has written to its serial port about itself."""
    log = (cloud.plan.layout.logs / f"{machine['instancename']}.log").read_text(errors="replace")
    # a shell on the same port has its prompt before it, and the last line can be still on its way
    found = [line.partition("systemvm-lab: ") for line in log.split("\n")[:-1]]
    return [text.strip() for _, start, text in found if start]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_guest_gets_its_address_its_user_data_and_its_password(cloud: BootedCloud) -> None:
    row = cloud.register("with-password", f"{cloud.plan.source_url}/tiny.qcow2", passwordenabled="true")
    template = cloud.wait_settled(row["id"])
    assert template["isready"]
    assert template["passwordenabled"]
    [offering] = cloud.api.listServiceOfferings(name="tiny")["serviceoffering"]
    started = cloud.api.deployVirtualMachine(
        name="leased",
        templateid=row["id"],
        serviceofferingid=offering["id"],
        zoneid=cloud.zone_id(),
        userdata=base64.b64encode(USER_DATA).decode(),
    )
    password = cloud.job(started["jobid"])["virtualmachine"]["password"]
    [machine] = cloud.api.listVirtualMachines(name="leased")["virtualmachine"]
    assert "password" not in machine
    [nic] = machine["nic"]
    [network] = [network for network in NETWORKS if network.traffic_type == "guest"]
    assert IPv4Address(nic["ipaddress"]) in network.host.network
    assert nic["ipaddress"] in cloud.cli("vm", "list").stdout

    expected = [
        f"address {nic['ipaddress']}/24",
        f"user data {digest(USER_DATA)}",
        f"password {digest(password.encode())}",
    ]
    found = wait_for(
        "what the guest was given", lambda: _last(said(cloud, machine), "password", "no password")
    )
    assert found[-3:] == expected

    # it is taken: another start finds none, and a reset another one
    cloud.cli("vm", "reboot", "--forced", "leased")
    wait_for("the second start", lambda: said(cloud, machine)[-1:] == ["no password waits"])
    cloud.cli("vm", "stop", "--forced", "leased")
    shown = cloud.cli("vm", "reset-password", "leased").stdout
    second = shown.removeprefix("Its password is ").split(" ")[0]
    cloud.cli("vm", "start", "leased")
    wait_for(
        "the second password",
        lambda: said(cloud, machine)[-1:] == [f"password {digest(second.encode())}"],
    )
    # neither is in what the daemon or its services have written
    logs = b"".join(path.read_bytes() for path in cloud.plan.logs.iterdir() if path.is_file())
    assert started["jobid"].encode() in logs or machine["instancename"].encode() in logs
    for text in (password, second):
        assert text.encode() not in logs
    cloud.cli("vm", "destroy", "--yes", "--expunge", "leased")


def _last(lines: list[str], *starts: str) -> list[str]:
    """Return the lines once the last of them begins with one of these; nothing before."""
    return lines if lines and lines[-1].startswith(starts) else []
