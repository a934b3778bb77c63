# SPDX-License-Identifier: Apache-2.0
"""The client of the daemon's UNIX socket: calls, jobs, lookups by name, the daemon's network namespace."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from systemvm.cli.refused_option import refused_option
from systemvm.rpc.core.errors import FORBIDDEN, RpcError
from systemvm.rpc.http.unix_client import UnreachableError, unix_call
from systemvm.service.slowness import scaled_s

SOCKET_UNDER_ROOT = "run/systemvm/managementd.sock"

CALL_TIMEOUT_S = 60.0
_JOB_POLL_INTERVAL_S = 0.5

#: Exit codes, as `systemvm --help` explains them.
EXIT_FAILED, EXIT_USAGE, EXIT_NO_DAEMON, EXIT_CHECK_FAILED = 1, 2, 3, 4
#: ssh's own: no connection, an unknown host key, or no key that the server accepts.
EXIT_SSH_FAILED = 255
_START_HINT = (
    'start the daemon ("make run" in a checkout, "systemctl start systemvm-managementd" on a host), or give '
    "--root if its files are elsewhere"
)


def socket_path(root: Path | None) -> Path:
    """Return the path of the daemon's socket below `root`.

    Without a root it is the cloud of `make run` when one runs in this checkout, else the host's daemon.
    """
    if root is None:
        in_checkout = Path("build/run")
        root = in_checkout if (in_checkout / SOCKET_UNDER_ROOT).exists() else Path("/")
    return root.absolute() / SOCKET_UNDER_ROOT


class CommandFailedError(click.ClickException):
    """A command's end with a message, a hint and an exit code, which is one of the codes above.

    `parameter` is the API's, whose value the daemon refused: the option that it was given by is shown.
    """

    def __init__(
        self, message: str, hint: str = "", exit_code: int = EXIT_FAILED, *, parameter: str = ""
    ) -> None:
        super().__init__(message)
        self.hint = hint
        context = click.get_current_context(silent=True)
        self.option = refused_option(context.command, parameter) if context and parameter else ""
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        click.secho(f"error: {self.message}", fg="red", err=True)
        if self.option:
            click.echo(f"in:    {self.option}", err=True)
        if self.hint:
            click.echo(f"hint:  {self.hint}", err=True)


@frozen
class DaemonClient:
    """Calls to the daemon that listens at `socket_path`."""

    socket_path: Path
    as_json: bool = False

    def call(self, method: str, /, timeout_s: float | None = None, **params: Any) -> Any:
        """Call a method and return its result; parameters that are None are left out.

        Without `timeout_s` a slow machine is given more time, as the daemon gives more time to its own calls.

        Raises: CommandFailedError with the daemon's message and hint, or when the daemon cannot be reached.
        """
        if timeout_s is None:
            timeout_s = scaled_s(CALL_TIMEOUT_S)
        given = {name: value for name, value in params.items() if value is not None}
        try:
            return unix_call(str(self.socket_path), method, given, timeout_s=timeout_s)
        except UnreachableError as error:
            hint = error.hint if error.code == FORBIDDEN else _START_HINT
            raise CommandFailedError(error.message, hint, EXIT_NO_DAEMON) from None
        except RpcError as error:
            raise CommandFailedError(error.message, error.hint, parameter=error.parameter) from None

    def records(self, command: str, key: str, /, **params: Any) -> list[dict[str, Any]]:
        """Return the rows of a list command."""
        return list((self.call(command, **params) or {}).get(key, []))

    def run_job(
        self,
        command: str,
        on_wait: Callable[[dict[str, Any]], None] = lambda job: None,
        **params: Any,
    ) -> dict[str, Any]:
        """Start an asynchronous command, wait for its job and return the job's result.

        `on_wait` gets the job each time that it has not ended.

        Raises: CommandFailedError with the job's error text and hint when it failed.
        """
        started = self.call(command, **params)
        for answer in self._poll_job(started["jobid"]):
            if answer["jobstatus"] == 1:
                return dict(answer.get("jobresult") or {})
            if answer["jobstatus"] == 2:
                result = answer.get("jobresult") or {}
                raise CommandFailedError(
                    result.get("errortext", f"{command} failed"),
                    result.get("hint", ""),
                    parameter=result.get("parameter", ""),
                )
            on_wait(dict(answer))
        raise AssertionError("unreachable: a job is polled until it ends")

    def _poll_job(self, job_id: str) -> Iterator[dict[str, Any]]:
        while True:
            yield self.call("queryAsyncJobResult", jobid=job_id)
            time.sleep(_JOB_POLL_INTERVAL_S)

    def find(self, command: str, key: str, name: str, noun: str, /, **params: Any) -> dict[str, Any]:
        """Return the one record of a list command with this name or id.

        Raises: CommandFailedError when there is none, or more than one; the hint lists the choices.
        """
        return self.choose(self.records(command, key, **params), name, noun)

    @staticmethod
    def choose(rows: list[dict[str, Any]], name: str, noun: str) -> dict[str, Any]:
        """Return the one row with this name or id; see `find`."""
        names = ("name", "displayname", "instancename", "id")
        found = [row for row in rows if name in [row.get(field) for field in names]]
        if len(found) == 1:
            return found[0]
        if found:
            raise CommandFailedError(
                f"name is ambiguous: {len(found)} {noun}s are named {name!r}",
                f"give one of these ids: {', '.join(row['id'] for row in found)}",
            )
        if not rows:
            raise CommandFailedError(f"there is no {noun} named {name!r}: the cloud has no {noun}")
        known = ", ".join(sorted(str(row.get("displayname") or row.get("name")) for row in rows))
        raise CommandFailedError(f"there is no {noun} named {name!r}", f"choose one of these: {known}")

    def zone_id(self) -> str:
        """Return the id of the first zone, which is the default for what is created without one.

        Raises: CommandFailedError when there is none.
        """
        zones = self.records("listZones", "zone")
        if not zones:
            raise CommandFailedError(
                "there is no zone", 'run "systemvm zone create"; docs/zone-by-api.sh shows all steps'
            )
        return str(zones[0]["id"])

    @property
    def pid(self) -> int:
        """The daemon's process id, from the kernel (SO_PEERCRED).

        Raises: OSError when nothing listens.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket_path))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def namespace_prefix(self) -> list[str]:
        """Return the words that run a command in the daemon's network namespace; none when it is this one.

        The link-local network of a cloud that runs in a namespace of its own (`make run`) exists only there.

        Raises: CommandFailedError when this user must not enter the namespace, OSError without a daemon.
        """
        theirs = Path(f"/proc/{self.pid}/ns/net")
        try:
            if theirs.readlink() == Path("/proc/self/ns/net").readlink():
                return []
        except PermissionError:
            raise CommandFailedError(
                "cannot enter the daemon's network namespace: permission denied", "run the command as root"
            ) from None
        return ["nsenter", f"--net={theirs}"]
