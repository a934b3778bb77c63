# SPDX-License-Identifier: Apache-2.0
"""A host whose bridges but the control network's are Open vSwitch's, and virtual machines on real taps."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import netns

from integration.network_lab import AGENTS, BRIDGES, Host, prepare_layout, running_host, sh
from openvswitch_daemons import OpenVSwitchDaemons
from systemvm.host.bridges import BridgeKind, Datapath
from systemvm.host.config_file import to_yaml
from systemvm.host.host_file import FILE_NAME, HostConfig, LabelConfig
from systemvm.host.layout import Layout
from systemvm.host.zone import TrafficType
from systemvm.nethelper.links import TUN, TUNSETIFF, tap_request

VLANS = ["100", "200"]
# linux/if_tun.h: checksums and segments are left to the other end, as virtio-net does
_TUNSETOFFLOAD, _CHECKSUM_AND_TSO = 0x400454D0, 0x01 | 0x02 | 0x04
_QUIET = """
import sys
from pyroute2 import IPRoute
from systemvm.nethelper import hybrid_plug
with IPRoute() as netlink:
    hybrid_plug.{function}
"""


class OpenVSwitchHost(Host):
    """Its bridges have Open vSwitch's own datapath, which needs no module of the kernel."""

    def __init__(self, tag: str, layout: Layout) -> None:
        super().__init__(tag, layout)
        self.switch = OpenVSwitchDaemons(self.name, layout)
        labels = {
            bridge: LabelConfig(
                [TrafficType(kind)],
                kind=BridgeKind.OPENVSWITCH,
                datapath=Datapath.NETDEV,
                vlans=VLANS if kind == "public" else [],
            )
            for bridge, (kind, _, _) in BRIDGES.items()
            if kind != "control"
        }
        (layout.etc / FILE_NAME).write_text(to_yaml(HostConfig(labels)))

    @contextmanager
    def prepared(self) -> Iterator[None]:
        self.switch.start()
        try:
            yield
        finally:
            self.switch.stop()

    def connect(self, port: str, bridge: str) -> None:
        """A neighbour computes its checksums, as a device on a wire would."""
        if bridge == "cloud0":
            super().connect(port, bridge)
            return
        run_in(self.neighbours[bridge], _QUIET.format(function="compute_checksums('eth0')"))
        run_in(self.name, _QUIET.format(function=f"carry_only(netlink, {port!r})"))
        sh("ip", "-n", self.name, "link", "set", port, "up")
        self.switch.vsctl("add-port", bridge, port, "--", "set", "port", port, "tag=0")


def run_in(namespace: str, script: str) -> str:
    command = ("ip", "netns", "exec", namespace, "env", f"PYTHONPATH={AGENTS}", sys.executable, "-c", script)
    return sh(*command)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVSwitchHost]:
    layout = prepare_layout(tmp_path_factory.mktemp("host"))
    host = OpenVSwitchHost(f"ov{os.getpid()}", layout)
    with running_host(host):
        yield host


class Machine:
    """A namespace in the place of a virtual machine: frames pass between its eth0 and a tap of the helper, as
    QEMU passes them, with headers of virtio.
    """

    def __init__(self, host: Host, tap: str, bridge: str, address: str, vlan: int | None = None) -> None:
        self.name, self.tap = f"{host.name}-{tap}", tap
        sh("ip", "netns", "add", self.name)
        self._inside = _open_tap(self.name)
        sh("ip", "-n", self.name, "addr", "add", address, "dev", "eth0")
        sh("ip", "-n", self.name, "link", "set", "eth0", "up")
        self._outside = _tap_of_helper(host, tap, bridge, vlan)
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._pass_frames)
        self._thread.start()

    def stop(self) -> None:
        """End it as a killed QEMU ends: the tap is gone, and nobody has removed anything."""
        os.close(self._ended)
        self._thread.join()
        for descriptor in (self._inside, self._outside, self._end):
            os.close(descriptor)
        sh("ip", "netns", "del", self.name)

    def _pass_frames(self) -> None:
        other = {self._inside: self._outside, self._outside: self._inside}
        while True:
            ready, _, _ = select.select([*other, self._end], [], [])
            if self._end in ready:
                return
            for descriptor in ready:
                os.write(other[descriptor], os.read(descriptor, 70_000))


@contextmanager
def machine(host: Host, tap: str, bridge: str, address: str, *, vlan: int | None = None) -> Iterator[Machine]:
    made = Machine(host, tap, bridge, address, vlan)
    try:
        yield made
    finally:
        made.stop()
        host.drive(f"await driver.remove_tap({tap!r})")


def _open_tap(namespace: str) -> int:
    """Make the interface eth0 of a namespace and return its descriptor."""
    opened: list[int] = []

    def work() -> None:
        netns.setns(namespace)  # of this thread only
        descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, tap_request("eth0"))
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _CHECKSUM_AND_TSO)
        opened.append(descriptor)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return opened[0]


def _tap_of_helper(host: Host, tap: str, bridge: str, vlan: int | None) -> int:
    """Have the daemon's user ask the helper for a tap, and return the descriptor that it got."""
    path = Path(host.layout.run) / "tap-of-test"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        host.drive(
            f"""
            import socket
            tap = await driver.create_tap({tap!r}, {bridge!r}, isolated=False, vlan={vlan})
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect({str(path)!r})
                socket.send_fds(connection, [b"x"], [tap])
            """
        )
        connection, _ = listener.accept()
        path.unlink()
        with connection:
            _, [descriptor], _, _ = socket.recv_fds(connection, 1, 1)
    os.set_blocking(descriptor, True)
    return descriptor
