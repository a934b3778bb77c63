# SPDX-License-Identifier: Apache-2.0
"""Starts a cloud until both system VMs are Up, and stops it; only its root directory remains."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from attrs import evolve

from systemvm.host.host_file import HostConfig
from systemvm.lab import activity, children, configuration, diagnosis, namespaces, pool_mounts, services
from systemvm.lab.api_client import ApiClient
from systemvm.lab.children import ChildProcess
from systemvm.lab.errors import LabError
from systemvm.lab.host_programs import HostProgram, helper_sockets, require_users
from systemvm.lab.lab_lock import LabLock
from systemvm.lab.login import read_login
from systemvm.lab.notify_socket import NotifySocket
from systemvm.lab.plan import LabPlan
from systemvm.lab.public_forwarder import CONSOLE, STORAGE, PublicForwarder
from systemvm.lab.reporting import NullReporter, NullStep, Reporter, Step
from systemvm.lab.system_vm_status import REQUIRED_TYPES, describe, types_up
from systemvm.lab.teardown import remove_sockets
from systemvm.lab.waiting import HANG_S, EndedError, WaitState, wait_for
from systemvm.management.first_start import FirstLogin
from systemvm.service.slowness import scaled_s

T = TypeVar("T")


class Cloud:
    """One cloud; `with Cloud(plan) as cloud:` starts and stops it."""

    def __init__(
        self,
        plan: LabPlan,
        reporter: Reporter | None = None,
        *,
        accelerator: str = "auto",
        system_vms: bool = True,
        hang_s: float | None = HANG_S,
        host: HostConfig | None = None,
    ) -> None:
        """A wait without any activity for `hang_s` is an error; with None it never is.

        With `host`, the host has these networks and no zone: start it with `wait_for_system_vms=False`.
        """
        self.plan = plan
        self._reporter: Reporter = reporter or NullReporter()
        self._accelerator = accelerator
        self._wants_system_vms = system_vms
        self._hang_s = hang_s
        self._host = host
        self._lock = LabLock(plan.lab / "lock")
        self._listeners: dict[str, socket.socket] = {}
        self._children: list[ChildProcess] = []
        self._daemon: ChildProcess | None = None
        self._storage: ChildProcess | None = None
        self._notify_socket: NotifySocket | None = None
        self._login: FirstLogin | None = None
        self._forwarder = PublicForwarder(plan, self.system_vms)

    def __enter__(self) -> Cloud:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- a running cloud ------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        return self.plan.root

    @property
    def login(self) -> FirstLogin:
        if self._login is None:
            raise LabError("the cloud is not started", "call start()")
        return self._login

    @property
    def api(self) -> ApiClient:
        return ApiClient(self.plan.page_port, self.login.api_key, self.login.secret_key)

    @property
    def daemon_pid(self) -> int:
        if self._daemon is None:
            raise LabError("the daemon is not started", "call start()")
        return self._daemon.process.pid

    @property
    def daemon_log(self) -> Path:
        return self.plan.logs / "managementd.log"

    # ---- starting -------------------------------------------------------------------------------------

    def start(self, *, wait_for_system_vms: bool = True) -> None:
        """Start everything; on an error or Ctrl-C everything is stopped again.

        Raises: LabError when a part cannot be started.
        """
        require_users()
        self._lock.acquire()
        try:
            self._start(wait_for_system_vms)
        except BaseException:
            self.stop()
            raise

    def _start(self, wait_for_system_vms: bool) -> None:
        plan, step = self.plan, self._reporter.step
        namespaces.remove(plan)
        pool_mounts.release(plan)
        # made before any namespace: only these listeners are in the host's namespace
        for name, port in plan.ports.items():
            self._listeners[name] = _listen(port)
        with step("networks") as shown:
            shown.waits_for("network namespaces and bridges")
            self.make_networks()
        with step("NFS server") as shown:
            shown.waits_for("rpcbind and nfs-ganesha on 10.12.0.2")
            self._children.append(services.start_rpcbind(plan, shown, self._hang_s))
            self._storage = services.start_storage(plan, shown, self._hang_s)
        with step("download source") as shown:
            shown.waits_for("nginx and dnsmasq on 203.0.113.10")
            self._children += services.start_source(plan, shown, self._hang_s)
        configuration.write(
            plan,
            services.source_certificates(plan),
            accelerator=self._accelerator,
            system_vms=self._wants_system_vms,
            host=self._host,
        )
        with step("privileged helpers"):
            pool_mounts.share(plan)
            self._start_helpers()
        self.start_daemon()
        self._login = read_login(plan)
        forwarded = {CONSOLE: self._listeners["console"], STORAGE: self._listeners["storage"]}
        self._children += self._forwarder.start(forwarded)
        if wait_for_system_vms and self._wants_system_vms:
            self.wait_for_system_vms()

    def make_networks(self) -> None:
        """Make the namespaces and what connects them; tests connect them in other ways, too."""
        namespaces.make(self.plan)

    def _start_helpers(self) -> None:
        """Start the programs that do privileged operations for the daemon."""
        plan = self.plan
        for program, listener in helper_sockets(plan.layout).items():
            with listener:
                child = children.start(
                    program.module,
                    plan.host_namespace,
                    program.argv(plan.layout, see=(plan.build,)),
                    plan.logs / f"{program.module.rpartition('.')[2]}.log",
                    sockets={"helper": listener},
                    own_mounts=program.own_mounts,
                )
            self._children.append(child)

    def start_daemon(self) -> None:
        """Start the management daemon, also again, and wait until it is ready."""
        plan = self.plan
        with self._reporter.step("management daemon") as shown:
            self._close_notify_socket()
            # open while the daemon runs: it also notifies its stop
            readiness = self._notify_socket = namespaces.inside(plan.host_namespace, NotifySocket)
            self._daemon = children.start(
                "the management daemon",
                plan.host_namespace,
                HostProgram.DAEMON.argv(plan.layout, see=(plan.build,)),
                self.daemon_log,
                sockets={"page": self._listeners["page"]},
                environment={"NOTIFY_SOCKET": readiness.address},
            )
            readiness.wait(self._daemon, shown, hang_s=self._hang_s)

    def stop_daemon(self, *, kill: bool = False) -> None:
        """Stop only the daemon, by SIGTERM or SIGKILL; VMs continue to run."""
        if self._daemon is not None:
            if kill:
                self._daemon.kill()
            else:
                self._daemon.stop(grace_s=scaled_s(20.0))
        self._close_notify_socket()

    def start_storage(self) -> None:
        """Start the NFS server again and wait until it listens."""
        self._storage = services.start_storage(self.plan, NullStep(), self._hang_s)

    def stop_storage(self, *, kill: bool = False) -> None:
        """Stop the NFS server, by SIGTERM or SIGKILL; the exported files remain."""
        if self._storage is not None:
            if kill:
                self._storage.kill()
            else:
                self._storage.stop()

    @contextlib.contextmanager
    def hung_storage(self) -> Iterator[None]:
        """Stop the NFS server's process in the block: it accepts connections and does not answer.

        Raises: LabError when no NFS server runs.
        """
        if self._storage is None:
            raise LabError("no NFS server runs", "call start_storage()")
        with self._storage.hung():
            yield

    def _close_notify_socket(self) -> None:
        if self._notify_socket is not None:
            self._notify_socket.close()
            self._notify_socket = None

    def restart_ended_daemon(self) -> bool:
        """Start the daemon again if it has ended, like systemd's Restart=; return whether it had."""
        if self._daemon is None or self._daemon.running:
            return False
        self.start_daemon()
        return True

    def wait_for_system_vms(self) -> list[dict[str, Any]]:
        """Wait until the SSVM and the CPVM are Running and their agents Up."""
        with self._reporter.step("system VMs (booting, agents Up)") as shown:
            return self.wait(self._look_at_system_vms, self._why_no_system_vms, shown)

    def wait(
        self,
        look: Callable[[], WaitState[T]],
        explain: Callable[[], str],
        step: Step | None = None,
        *,
        late_s: float | None = None,
    ) -> T:
        """Wait for a result of `look`; work of any VM counts as activity.

        Raises: EndedError when the daemon ends, StalledError when it takes too long.
        """

        def look_at_both() -> WaitState[T]:
            if self._daemon is not None and not self._daemon.running:
                raise EndedError(f"the daemon ended\n{self._daemon.last_lines()}", f"see {self.daemon_log}")
            found = look()
            return evolve(found, activity=(found.activity, self._machines_work()))

        return wait_for(look_at_both, step or NullStep(), explain, late_s=late_s, hang_s=self._hang_s)

    def _machines_work(self) -> int:
        """Return the VMs' CPU time in minutes: an idle VM uses one in a quarter of an hour."""
        ticks = sum(activity.cpu_ticks_by_file(path) for path in self.plan.layout.machines.glob("*.pid"))
        return ticks // (60 * os.sysconf("SC_CLK_TCK"))

    def _look_at_system_vms(self) -> WaitState[list[dict[str, Any]]]:
        machines = self.api.items("listSystemVms", "systemvm")
        log_sizes = [activity.written_bytes(self.plan.layout.logs / f"{vm['name']}.log") for vm in machines]
        return WaitState(
            describe(machines) or "the first of them",
            result=machines if types_up(machines) >= REQUIRED_TYPES else None,
            progress=(describe(machines), *(vm.get("reason") for vm in machines), *log_sizes),
        )

    def why(self, *kinds: str) -> str:
        """Return the daemon's diagnosis of its system VMs of these kinds (`systemvmtype`)."""
        names = [vm["name"] for vm in self.system_vms() if vm["systemvmtype"] in kinds]
        if not names:
            return f"the daemon lists no system VM; see {self.daemon_log}"
        return "\n".join(diagnosis.why(self.plan.layout.socket, name) for name in names)

    def _why_no_system_vms(self) -> str:
        return self.why(*(REQUIRED_TYPES - types_up(self.system_vms())))

    def system_vms(self) -> list[dict[str, Any]]:
        """Return the system VMs that the API lists; none while it does not answer."""
        try:
            return self.api.items("listSystemVms", "systemvm")
        except OSError:
            return []

    # ---- stopping -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the daemon first, so that it restarts nothing; then VMs, servers and namespaces."""
        if not self._lock.is_held:
            return  # not started, or started by another process
        with _uninterrupted():
            self._forwarder.stop()
            for listener in self._listeners.values():
                listener.close()
            self._listeners = {}
            with self._reporter.step("stopping VMs and servers") as shown:
                shown.waits_for("the daemon")
                self.stop_daemon()
                shown.waits_for("VMs and servers")
                namespaces.remove(self.plan)
                pool_mounts.release(self.plan)
            for child in [*self._children, *([self._storage] if self._storage is not None else [])]:
                child.process.wait()
            self._storage = None
            self._children = []
            self._daemon = None
            remove_sockets(self.plan)
            self._lock.release()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise LabError(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}",
            'end the program that uses it (see "ss -ltnp"), or choose another port',
        ) from error


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore signals in the block: a second Ctrl-C must not interrupt the stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
