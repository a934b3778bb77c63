# SPDX-License-Identifier: Apache-2.0
"""A cloud from nothing to both system VMs Up, and back to nothing but its root directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from attrs import asdict, evolve

from systemvm.lab import activity, children, configuration, explanation, namespaces, services
from systemvm.lab.api_client import ApiClient
from systemvm.lab.children import Child
from systemvm.lab.errors import LabError
from systemvm.lab.host_programs import HostProgram, helper_sockets, require_users
from systemvm.lab.ownership import Ownership
from systemvm.lab.plan import Plan
from systemvm.lab.readiness import Readiness
from systemvm.lab.reporting import Quiet, Reporter, Silent, Step
from systemvm.lab.waiting import HANG_S, EndedError, Look, wait_for
from systemvm.management.first_start import FirstLogin
from systemvm.service.slowness import scaled_s

T = TypeVar("T")

_POLL_S = 1.0
#: The zone needs one of each (`systemvmtype`).
_KINDS = frozenset({"secondarystoragevm", "consoleproxy"})

SOCKET_PROXY = "/usr/lib/systemd/systemd-socket-proxyd"
#: The console proxy's name for the forwarder; it resolves it anew for every connection.
CONSOLE_NAME = "console.systemvm.internal"

#: A private /etc/hosts for one process; `ip netns exec` has made its mounts its own already.
_WITH_HOSTS = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'


class Cloud:
    """`with Cloud(plan) as cloud:` is a cloud that works; see `start` and `stop` for each half."""

    def __init__(
        self,
        plan: Plan,
        reporter: Reporter | None = None,
        *,
        accelerator: str = "auto",
        system_vms: bool = True,
        hang_s: float | None = HANG_S,
    ) -> None:
        """`hang_s`: after how long without any sign of work a wait is an error; None: never."""
        self.plan = plan
        self._reporter: Reporter = reporter or Quiet()
        self._accelerator = accelerator
        self._wants_system_vms = system_vms
        self._hang_s = hang_s
        self._ownership = Ownership(plan.lab / "lock")
        self._listeners: dict[str, socket.socket] = {}
        self._children: list[Child] = []
        self._daemon: Child | None = None
        self._storage: Child | None = None
        self._readiness: Readiness | None = None
        self._login: FirstLogin | None = None
        self._follower: threading.Thread | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> Cloud:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- what a running cloud offers ------------------------------------------------------------------

    @property
    def root(self) -> Path:
        return self.plan.root

    @property
    def login(self) -> FirstLogin:
        if self._login is None:
            raise LabError("the cloud has not been started")
        return self._login

    @property
    def api(self) -> ApiClient:
        return ApiClient(self.plan.page_port, self.login.api_key, self.login.secret_key)

    @property
    def daemon_pid(self) -> int:
        if self._daemon is None:
            raise LabError("no daemon has been started")
        return self._daemon.process.pid

    @property
    def daemon_log(self) -> Path:
        return self.plan.logs / "managementd.log"

    # ---- starting -------------------------------------------------------------------------------------

    def start(self, *, wait_for_system_vms: bool = True) -> None:
        """Bring everything up; on an error, or Ctrl-C, everything is taken down again."""
        require_users()
        self._ownership.take()
        try:
            self._start(wait_for_system_vms)
        except BaseException:
            self.stop()
            raise

    def _start(self, wait_for_system_vms: bool) -> None:
        plan, step = self.plan, self._reporter.step
        namespaces.remove(plan)
        # before any namespace: these two are the only things that the host itself sees
        self._listeners = {"page": _listen(plan.page_port), "console": _listen(plan.console_port)}
        with step("networks") as shown:
            shown.waits_for("network namespaces and bridges")
            namespaces.make(plan)
        with step("NFS server") as shown:
            shown.waits_for("nfs-ganesha on 10.12.0.2:2049")
            self._storage = services.start_storage(plan, shown, self._hang_s)
        with step("download source") as shown:
            shown.waits_for("nginx and dnsmasq on 203.0.113.10")
            self._children += services.start_source(plan, shown, self._hang_s)
        configuration.write(
            plan,
            services.source_certificates(plan),
            accelerator=self._accelerator,
            system_vms=self._wants_system_vms,
        )
        with step("privileged helpers"):
            self._start_helpers()
        self.start_daemon()
        self._login = self._read_login()
        self._children.append(self._start_console_proxy())
        self._stopping.clear()
        self._follower = threading.Thread(target=self._follow_console, name="console-address", daemon=True)
        self._follower.start()
        if wait_for_system_vms and self._wants_system_vms:
            self.wait_for_system_vms()

    def _start_helpers(self) -> None:
        """The programs that the daemon asks for what it may not do itself."""
        plan = self.plan
        for program, listener in helper_sockets(plan.layout).items():
            with listener:
                child = children.start(
                    program.module,
                    plan.host_namespace,
                    program.words(plan.layout, see=(plan.build,)),
                    plan.logs / f"{program.module.rpartition('.')[2]}.log",
                    sockets={"helper": listener},
                )
            self._children.append(child)

    def start_daemon(self) -> None:
        """Start the management daemon, or start it again; comes back when it is ready."""
        plan = self.plan
        with self._reporter.step("management daemon") as shown:
            self._end_readiness()
            # open for as long as the daemon lives: its last word goes there too
            readiness = self._readiness = namespaces.inside(plan.host_namespace, Readiness)
            self._daemon = children.start(
                "the management daemon",
                plan.host_namespace,
                HostProgram.DAEMON.words(plan.layout, see=(plan.build,)),
                self.daemon_log,
                sockets={"page": self._listeners["page"]},
                environment={"NOTIFY_SOCKET": readiness.address},
            )
            readiness.wait(self._daemon, shown, hang_s=self._hang_s)

    def stop_daemon(self, *, kill: bool = False) -> None:
        """End the daemon alone, politely or by SIGKILL; machines go on running."""
        if self._daemon is not None:
            if kill:
                self._daemon.kill()
            else:
                self._daemon.stop(grace_s=scaled_s(20.0))
        self._end_readiness()

    def start_storage(self) -> None:
        """Start the NFS server again; comes back when it listens."""
        self._storage = services.start_storage(self.plan, Silent(), self._hang_s)

    def stop_storage(self, *, kill: bool = False) -> None:
        """End the NFS server, politely or by SIGKILL; what it exports stays as it is."""
        if self._storage is not None:
            if kill:
                self._storage.kill()
            else:
                self._storage.stop()

    @contextlib.contextmanager
    def hung_storage(self) -> Iterator[None]:
        """Meanwhile the NFS server takes connections and answers nothing."""
        if self._storage is None:
            raise LabError("no NFS server runs", "begin with start_storage()")
        with self._storage.hung():
            yield

    def _end_readiness(self) -> None:
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None

    def revive(self) -> bool:
        """What systemd's Restart= does: start a daemon that has ended again; whether it had."""
        if self._daemon is None or self._daemon.running:
            return False
        self.start_daemon()
        return True

    def wait_for_system_vms(self) -> list[dict[str, Any]]:
        """Until the SSVM and the CPVM are Running and their agents Up."""
        with self._reporter.step("system VMs (booting, agents Up)") as shown:
            return self.wait(self._look_at_system_vms, self._why_no_system_vms, shown)

    def wait(
        self,
        look: Callable[[], Look[T]],
        explain: Callable[[], str],
        step: Step | None = None,
        *,
        late_s: float | None = None,
    ) -> T:
        """Wait for something of this cloud's; EndedError when its daemon ends meanwhile.

        Work in any of its machines counts as activity.
        """

        def look_at_both() -> Look[T]:
            if self._daemon is not None and not self._daemon.running:
                raise EndedError(f"the daemon ended\n{self._daemon.last_lines()}", f"see {self.daemon_log}")
            found = look()
            return evolve(found, activity=(found.activity, self._machines_work()))

        return wait_for(look_at_both, step or Silent(), explain, late_s=late_s, hang_s=self._hang_s)

    def _machines_work(self) -> int:
        """In units of so much CPU time that an idle machine takes a quarter of an hour for one."""
        ticks = sum(activity.cpu_ticks_by_file(path) for path in self.plan.layout.machines.glob("*.pid"))
        return ticks // (60 * os.sysconf("SC_CLK_TCK"))

    def _look_at_system_vms(self) -> Look[list[dict[str, Any]]]:
        machines = self.api.items("listSystemVms", "systemvm")
        up = {vm["systemvmtype"] for vm in machines if _is_up(vm)}
        said = [activity.written_bytes(self.plan.layout.logs / f"{vm['name']}.log") for vm in machines]
        return Look(
            _states(machines) or "the first of them",
            result=machines if up >= _KINDS else None,
            progress=(_states(machines), *(vm.get("reason") for vm in machines), *said),
        )

    def why(self, *kinds: str) -> str:
        """What the daemon knows of its system VMs of these kinds (`systemvmtype`), looked at now."""
        names = [vm["name"] for vm in self.system_vms() if vm["systemvmtype"] in kinds]
        if not names:
            return f"the daemon lists no system VM now; see {self.daemon_log}"
        return "\n".join(explanation.why(self.plan.layout.socket, name) for name in names)

    def _why_no_system_vms(self) -> str:
        up = {vm["systemvmtype"] for vm in self.system_vms() if _is_up(vm)}
        return self.why(*(_KINDS - up))

    def system_vms(self) -> list[dict[str, Any]]:
        """As the API lists them; none while it does not answer."""
        try:
            return self.api.items("listSystemVms", "systemvm")
        except OSError:
            return []

    def _read_login(self) -> FirstLogin:
        """The first start's login, kept among the lab's files: a person asks for it at every start."""
        kept = self.plan.lab / "login.json"
        fresh = FirstLogin.take(self.plan.layout.first_login)
        if fresh is not None:
            descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(asdict(fresh)))
            return fresh
        try:
            return msgspec.json.decode(kept.read_bytes(), type=FirstLogin)
        except FileNotFoundError as error:
            raise LabError(f"{kept} is gone, and with it the login", "`make reset` begins anew") from error

    # ---- the console's way in -------------------------------------------------------------------------

    def _start_console_proxy(self) -> Child:
        hosts = self.plan.hosts_file
        hosts.write_text("127.0.0.1 localhost\n")
        words: list[str | Path] = [
            "sh", "-c", _WITH_HOSTS, "sh", hosts, SOCKET_PROXY, f"{CONSOLE_NAME}:8443",
        ]  # fmt: skip
        return children.start(
            "systemd-socket-proxyd",
            self.plan.host_namespace,
            words,
            self.plan.logs / "console-proxy.log",
            sockets={"console": self._listeners["console"]},
        )

    def _follow_console(self) -> None:
        """Keep the forwarder's idea of the console proxy's address right, whichever machine that is."""
        known = ""
        while not self._stopping.wait(_POLL_S * 2):
            with contextlib.suppress(LabError):
                for vm in self.system_vms():
                    address = str(vm.get("publicip") or "")
                    if vm["systemvmtype"] == "consoleproxy" and _is_up(vm) and address != known:
                        # in place: a bind mount shows the file, not its name
                        self.plan.hosts_file.write_text(f"127.0.0.1 localhost\n{address} {CONSOLE_NAME}\n")
                        known = address

    # ---- stopping -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The daemon first, so that it starts nothing again; then machines, servers, namespaces."""
        if not self._ownership.held:
            return  # never started, or another process's
        with _uninterrupted():
            self._stopping.set()
            if self._follower is not None:
                self._follower.join(30)
                self._follower = None
            for listener in self._listeners.values():
                listener.close()
            self._listeners = {}
            with self._reporter.step("ending machines and servers") as shown:
                shown.waits_for("the daemon")
                self.stop_daemon()
                shown.waits_for("machines and servers")
                namespaces.remove(self.plan)
            for child in [*self._children, *([self._storage] if self._storage is not None else [])]:
                child.process.wait()
            self._storage = None
            self._children = []
            self._daemon = None
            _forget_sockets(self.plan)
            self._ownership.drop()


def down(plan: Plan) -> None:
    """End the cloud of this root, whoever started it, and clean what a killed one left."""
    Ownership(plan.lab / "lock").ask_to_end(timeout_s=scaled_s(120.0))
    namespaces.remove(plan)
    if plan.root.exists():
        _forget_sockets(plan)


def reset(plan: Plan) -> None:
    """Forget everything: database, keys, templates, machines."""
    down(plan)
    if plan.root.exists():
        if not (plan.lab / "lock").exists():
            raise LabError(f"{plan.root} is not a lab's directory", "it is not removed; look at it yourself")
        _make_removable(plan.layout.images)
        shutil.rmtree(plan.root)


def _make_removable(images: Path) -> None:
    """Images are read-only directories."""
    for directory in images.glob("*"):
        if directory.is_dir():
            directory.chmod(0o755)


def _forget_sockets(plan: Plan) -> None:
    """What belongs to a running cloud alone."""
    shutil.rmtree(plan.layout.run, ignore_errors=True)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise LabError(
            f"port {port} on 127.0.0.1: {error.strerror}",
            "end what uses it (`ss -ltnp`), or take another port",
        ) from error


def _is_up(vm: dict[str, Any]) -> bool:
    return vm.get("state") == "Running" and vm.get("agentstate") == "Up"


def _states(machines: list[dict[str, Any]]) -> str:
    return ", ".join(f"{vm['name']} {vm.get('state')}, agent {vm.get('agentstate', '-')}" for vm in machines)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave half of a cloud behind."""
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
