# SPDX-License-Identifier: Apache-2.0
"""A booted cloud whose zone docs/zone-by-api.sh makes with other networks than the sample's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Interface
from pathlib import Path

from attrs import field, frozen
from playwright.sync_api import Page

from booted_cloud import TOP, BootedCloud
from console_page import wait_screen
from free_ports import plan_with_free_ports
from integration.cpvm_lab.chromium import Chromium
from systemvm.host.host_file import HostConfig, LabelConfig
from systemvm.host.zone import TrafficType
from systemvm.lab import children, guest_image, namespaces
from systemvm.lab.cloud import Cloud
from systemvm.lab.commands import run
from systemvm.lab.plan import SOURCE, ExternalServer, LabPlan
from systemvm.lab.public_forwarder import SOCKET_PROXY
from systemvm.lab.teardown import reset
from systemvm.service.slowness import scaled_s

SCRIPT = TOP / "docs/zone-by-api.sh"

CONTROL = LabelConfig([TrafficType.CONTROL], addresses=["169.254.0.1/16"])
GUEST = LabelConfig([TrafficType.GUEST], addresses=["10.13.0.1/24"])


@frozen
class ZoneShape:
    """The networks of a zone: what `host.yaml` has, and the variables of the script."""

    labels: Mapping[str, LabelConfig]
    variables: Mapping[str, str]
    #: The bridge where the web server has a second address, which is the router of the system VMs.
    router_on: str | None = None
    #: Addresses and ports of IPv6 where servers are reached, too.
    ipv6: Mapping[ExternalServer, tuple[IPv6Interface, int]] = field(factory=dict)

    @property
    def host(self) -> HostConfig:
        return HostConfig({"cloud0": CONTROL, "cloudbr3": GUEST, **self.labels})


def label(address: str, *kinds: str) -> LabelConfig:
    return LabelConfig([TrafficType(kind) for kind in kinds], addresses=address.split())


@contextmanager
def zone_of_shape(
    shape: ZoneShape, name: str, cloud_of: Callable[..., Cloud] = Cloud
) -> Iterator[BootedCloud]:
    """Make the zone by the script and wait until its system VMs are Up."""
    plan = plan_with_free_ports(TOP / "build" / name, TOP / "build")
    if plan.root.exists():
        reset(plan)
    plan.source_pages.mkdir(parents=True)
    shutil.copy(guest_image.build(plan.build), plan.source_pages / "tiny.qcow2")
    lab = cloud_of(plan, host=shape.host)
    lab.start(wait_for_system_vms=False)
    try:
        if shape.router_on is not None:
            _add_router(plan, shape.router_on, shape.variables["ROUTER"])
        for server, (address, port) in shape.ipv6.items():
            _serve_by_ipv6(plan, server, address, port)
        cloud = BootedCloud(lab)
        _run_script(cloud, shape.variables)
        lab.wait_for_system_vms()
        yield cloud
    finally:
        lab.stop()


def _add_router(plan: LabPlan, bridge: str, address: str) -> None:
    """Connect the web server to another bridge, where system VMs reach it as their router."""
    host, theirs = plan.host_namespace, plan.namespace_of(SOURCE)
    run("ip", "-n", host, "link", "add", "router0", "type", "veth", "peer", "name", "eth1", "netns", theirs)
    run("ip", "-n", host, "link", "set", "router0", "master", bridge, "up")
    run("ip", "-n", theirs, "addr", "add", f"{address}/24", "dev", "eth1")
    run("ip", "-n", theirs, "link", "set", "eth1", "up")


def _serve_by_ipv6(plan: LabPlan, server: ExternalServer, address: IPv6Interface, port: int) -> None:
    """Give a server an IPv6 address whose connections go to its own one; the lab's end ends the forwarder."""
    theirs = plan.namespace_of(server)
    run("ip", "-n", theirs, "addr", "add", str(address), "dev", "eth0", "nodad")
    with namespaces.inside(
        theirs, lambda: socket.create_server((str(address.ip), port), family=socket.AF_INET6)
    ) as listener:
        children.start(
            f"IPv6 of {server.name}",
            theirs,
            [SOCKET_PROXY, f"{server.address.ip}:{port}"],
            plan.logs / f"{server.name}-ipv6.log",
            sockets={server.name: listener},
        )


def _run_script(cloud: BootedCloud, variables: Mapping[str, str]) -> None:
    given = {
        "SYSTEMVM": " ".join(cloud.command_line),
        "HOST_NAME": "lab-host",
        "STORE_PATH": str(cloud.plan.secondary),
        # see lab/configuration.py
        "NFS": "4.1",
    }
    subprocess.run([SCRIPT], env={**os.environ, **given, **variables}, check=True, timeout=scaled_s(300.0))


def check_template_and_console(cloud: BootedCloud, home: Path, source: str = str(SOURCE.address.ip)) -> str:
    """Download a template, deploy it, and open the console of the VM in a browser on this host's networks.

    Return the URL of the console.
    """
    row = cloud.register("tiny", f"http://{source}/tiny.qcow2")
    settled = cloud.wait_settled(row["id"])
    assert settled["isready"], settled
    cloud.cli("vm", "deploy", "screen", "--template", "tiny")
    [machine] = cloud.api.listVirtualMachines()["virtualmachine"]
    endpoint = cloud.api.createConsoleEndpoint(virtualmachineid=machine["id"])["consoleendpoint"]
    assert endpoint["success"], endpoint
    inside = home / "chromium"
    inside.write_text(f'#!/bin/sh\nexec ip netns exec {cloud.plan.host_namespace} /usr/bin/chromium "$@"\n')
    inside.chmod(0o755)
    browser = Chromium(inside)
    try:
        browser.run(lambda page: _show(page, endpoint["url"]))
    finally:
        browser.close()
    url: str = endpoint["url"]
    return url


def _show(page: Page, url: str) -> None:
    page.goto(url)
    wait_screen(page)
