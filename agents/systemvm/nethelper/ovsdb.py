# SPDX-License-Identifier: Apache-2.0
"""Reads and changes Open vSwitch's database by `ovs-vsctl`, which waits until `ovs-vswitchd` obeys.

The database outlives a restart of the host: a port remains in it without the link that it names.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen

from systemvm.host.bridges import Datapath
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError

#: The column in which a port has the name of its tap (ovs-vswitchd.conf.db(5), external_ids).
_TAP = "systemvm-tap"
#: Less than the daemon waits for the helper.
_TIMEOUT_S = 15.0
_ALARM = -signal.SIGALRM  # ovs-vsctl's own timeout


class NoOpenVSwitchError(RefusedError):
    """Open vSwitch does not obey, whatever the bridge."""


@frozen
class TapPort:
    bridge: str
    is_isolated: bool


class Ovsdb:
    """Bridges and ports of the Open vSwitch whose database server listens on a UNIX socket."""

    def __init__(self, server: Path) -> None:
        self._server = server

    def datapath_of(self, bridge: str) -> Datapath | None:
        """Return the datapath of a bridge; None when there is no such bridge."""
        if bridge not in self._run("list-br").split():
            return None
        text = self._run("get", "bridge", bridge, "datapath_type").strip().strip('"')
        return Datapath(text or Datapath.SYSTEM.value)

    def add_bridge(self, name: str, datapath: Datapath, mac: str) -> None:
        self._run(
            *("add-br", name, "--", "set", "bridge", name, f"datapath_type={datapath.value}"),
            f'other_config:hwaddr="{mac}"',
        )

    def remove_bridge(self, name: str) -> None:
        self._run("--if-exists", "del-br", name)

    def set_uplink(self, bridge: str, uplink: str, vlans: Iterable[int]) -> None:
        """Have a bridge carry the untagged network on an interface, and of the VLANs only these, if any."""
        trunks = ",".join(map(str, sorted(vlans)))
        only = ("--", "set", "port", uplink, f"trunks=0,{trunks}") if trunks else ()
        self._run("--may-exist", "add-port", bridge, uplink, *only)
        self._check_interface(uplink)

    def add_access_port(self, bridge: str, name: str, *, vlan: int | None, isolated: bool, tap: str) -> None:
        """Add the port of a tap: its frames have no tag, and those that come with one are dropped.

        Raises: RefusedError when it cannot be; the port is not in the database then.
        """
        try:
            self._run(
                *("add-port", bridge, name, "--", "set", "port", name),
                # without a tag a port would be a trunk, in every VLAN
                *("vlan_mode=access", f"tag={vlan or 0}"),
                f"other_config:protected={str(isolated).lower()}",
                f'external_ids:{_TAP}="{tap}"',
            )
            self._check_interface(name)
        except RefusedError:
            with contextlib.suppress(RefusedError):
                self.remove_port(name)
            raise

    def remove_port(self, name: str) -> None:
        """Remove a port; `ovs-vswitchd` obeys when it can."""
        self._run("--no-wait", "--if-exists", "del-port", name)

    def tap_ports(self) -> dict[str, TapPort]:
        """Return the port of each tap."""
        bridges = {
            port: str(name)
            for name, ports in self._table("bridge", "name", "ports")
            for port in _members(ports)
        }
        found = {}
        for [_, uuid], (_, ids), (_, config) in self._table("port", "_uuid", "external_ids", "other_config"):
            if uuid in bridges and (tap := dict(ids).get(_TAP)):
                found[tap] = TapPort(bridges[uuid], dict(config).get("protected") == "true")
        return found

    def _table(self, name: str, *columns: str) -> list[list[Any]]:
        text = self._run("--format=json", f"--columns={','.join(columns)}", "list", name)
        rows: list[list[Any]] = json.loads(text)["data"]
        return rows

    def _check_interface(self, name: str) -> None:
        """Raises: RefusedError when `ovs-vswitchd` cannot use the link."""
        if self._run("get", "interface", name, "ofport").strip() == "-1":
            why = self._run("get", "interface", name, "error").strip().strip('"')
            raise RefusedError(f"Open vSwitch cannot use {name}: {why}", "read the log of ovs-vswitchd")

    def _run(self, *arguments: str) -> str:
        self._check_server()
        self._check_switch()
        timeout_s = scaled_s(_TIMEOUT_S)
        command = ["ovs-vsctl", f"--db=unix:{self._server}", f"--timeout={timeout_s:.0f}", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise NoOpenVSwitchError(
                "Open vSwitch is not installed on this host", "install Debian's openvswitch-switch"
            ) from error
        if done.returncode == _ALARM:
            raise NoOpenVSwitchError(
                f"ovs-vswitchd has not obeyed within {timeout_s:.0f} s",
                'run "systemctl restart openvswitch-switch"',
            )
        if done.returncode != 0:
            raise RefusedError(f"cannot change Open vSwitch: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _check_server(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(str(self._server))
            except PermissionError as error:
                raise NoOpenVSwitchError(
                    f"network helper cannot change Open vSwitch: {self._server} is not writable for it",
                    "install systemd/host/ovsdb-server.service.d/, and restart openvswitch-switch",
                ) from error
            except OSError as error:
                raise NoOpenVSwitchError(
                    f"Open vSwitch does not run on this host: {self._server}: {error.strerror}",
                    'install Debian\'s openvswitch-switch, and run "systemctl start openvswitch-switch"',
                ) from error

    def _check_switch(self) -> None:
        """`ovs-vsctl` would wait for a switch that does not run."""
        try:
            os.kill(int(self._server.with_name("ovs-vswitchd.pid").read_text()), 0)
        except PermissionError:
            pass  # it runs, as root
        except (OSError, ValueError) as error:
            raise NoOpenVSwitchError(
                "ovs-vswitchd does not run on this host", 'run "systemctl restart openvswitch-switch"'
            ) from error


def _members(ports: list[Any]) -> list[str]:
    """Return the UUIDs of a set, which is written as its member when it has only one (RFC 7047, 5.1)."""
    kind, value = ports
    return [value] if kind == "uuid" else [uuid for _, uuid in value]
