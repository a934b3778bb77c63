# SPDX-License-Identifier: Apache-2.0
"""The daemon as the command line sees it: a UNIX socket, the API's commands, a network namespace."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from systemvm.rpc.core.errors import FORBIDDEN, RpcError
from systemvm.rpc.http.unix_client import UnreachableError, unix_call
from systemvm.service.slowness import scaled_s

SOCKET_UNDER_ROOT = "run/systemvm/managementd.sock"

CALL_S = 60.0

#: Exit codes, as `systemvm --help` explains them.
EXIT_FAILED, EXIT_USAGE, EXIT_NO_DAEMON, EXIT_CHECK_FAILED = 1, 2, 3, 4
EXIT_SSH_FAILED = 255  # ssh's own: no connection, a strange host key, no key that is let in
_START_HINT = (
    "Is it running? `make run` starts one in a checkout, `systemctl start systemvm-managementd` on a host; "
    "--root names another place."
)


def socket_path(root: Path | None) -> Path:
    """Where the daemon of a root listens; in a checkout whose `make run` is up, that cloud is meant."""
    if root is None:
        here = Path("build/run")
        root = here if (here / SOCKET_UNDER_ROOT).exists() else Path("/")
    return root.absolute() / SOCKET_UNDER_ROOT


class Failed(click.ClickException):
    """An error with a line of advice; `exit_code` is one of the codes above."""

    def __init__(self, message: str, hint: str = "", exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        click.secho(f"error: {self.message}", fg="red", err=True)
        if self.hint:
            click.echo(f"hint:  {self.hint}", err=True)


@frozen
class Daemon:
    """Calls to the daemon behind `socket_path`."""

    socket_path: Path
    as_json: bool = False

    def call(self, method: str, /, timeout_s: float | None = None, **params: Any) -> Any:
        """Call a method; Failed with the daemon's own words when it says no.

        Without `timeout_s` a slow machine is given more time, as the daemon gives to what it calls itself.
        """
        if timeout_s is None:
            timeout_s = scaled_s(CALL_S)
        given = {name: value for name, value in params.items() if value is not None}
        try:
            return unix_call(str(self.socket_path), method, given, timeout_s=timeout_s)
        except UnreachableError as error:
            hint = error.hint if error.code == FORBIDDEN else _START_HINT
            raise Failed(error.message, hint, EXIT_NO_DAEMON) from None
        except RpcError as error:
            raise Failed(error.message, error.hint) from None

    def records(self, command: str, key: str, **params: Any) -> list[dict[str, Any]]:
        """The rows of a list command."""
        return list((self.call(command, **params) or {}).get(key, []))

    def job(self, command: str, on_wait: Callable[[], None] = lambda: None, **params: Any) -> dict[str, Any]:
        """Start an asynchronous command and follow it to its end; Failed with what it failed of."""
        started = self.call(command, **params)
        for answer in self._answers(started["jobid"]):
            if answer["jobstatus"] == 1:
                return dict(answer.get("jobresult") or {})
            if answer["jobstatus"] == 2:
                result = answer.get("jobresult") or {}
                raise Failed(result.get("errortext", f"{command} failed"), result.get("hint", ""))
            on_wait()
        raise AssertionError("unreachable: answers go on until a job ends")

    def _answers(self, job_id: str) -> Iterator[dict[str, Any]]:
        while True:
            yield self.call("queryAsyncJobResult", jobid=job_id)
            time.sleep(0.5)

    def find(self, command: str, key: str, name: str, what: str, **params: Any) -> dict[str, Any]:
        """The one record with this name or id; Failed names what there is otherwise."""
        rows = self.records(command, key, **params)
        names = ("name", "displayname", "instancename", "id")
        found = [row for row in rows if name in [row.get(field) for field in names]]
        if len(found) == 1:
            return found[0]
        if found:
            raise Failed(
                f"{len(found)} {what}s are called {name!r}",
                "Give the id instead: " + ", ".join(r["id"] for r in found),
            )
        known = (
            ", ".join(sorted(str(row.get("displayname") or row.get("name")) for row in rows)) or "none yet"
        )
        raise Failed(f"no {what} is called {name!r}", f"There is: {known}")

    def zone_id(self) -> str:
        """The zone where things go that name none: the first."""
        zones = self.records("listZones", "zone")
        if not zones:
            raise Failed(
                "the cloud has no zone", "Describe one in etc/systemvm/zones, then restart the daemon."
            )
        return str(zones[0]["id"])

    @property
    def pid(self) -> int:
        """The daemon's process, as the kernel tells (SO_PEERCRED); OSError without a daemon."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket_path))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def namespace_prefix(self) -> list[str]:
        """The words that put a command into the daemon's network namespace, none when it is ours.

        The link-local network of a cloud that runs in a namespace of its own (`make run`) is only there.
        """
        theirs = Path(f"/proc/{self.pid}/ns/net")
        try:
            if theirs.readlink() == Path("/proc/self/ns/net").readlink():
                return []
        except PermissionError:
            raise Failed("the daemon's network namespace is not open to you", "Run it as root.") from None
        return ["nsenter", f"--net={theirs}"]
