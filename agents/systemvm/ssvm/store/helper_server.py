# SPDX-License-Identifier: Apache-2.0
"""A resident root helper: one warm process that accepts calls and forks a child for each.

The parent never touches a store, so it never hangs; a child that hangs in the kernel hangs alone and keeps
one slot of its own store. A call costs a fork, and neither a unit nor an interpreter: those cost 6 CPU
seconds a call on a busy machine without KVM. Nothing here needs Twisted, whose reactor could not be forked.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from attrs import define, field

from systemvm.rpc.core.errors import INTERNAL, RpcError
from systemvm.rpc.core.frame import LineSplitter, LineTooLong
from systemvm.rpc.core.message import MessageId
from systemvm.service import sd_notify
from systemvm.ssvm.helper_call import BEGUN_LINE, HelperCall, Operation, RefusedCall, read_call, send_answer
from systemvm.ssvm.store.call_queue import DEFAULT_LIMITS, CallQueue, QueuedCall, QueueLimits
from systemvm.wire.transfer_failure import TransferFailure

LISTEN_FD = 3  # sd_listen_fds(3): the first that the service manager passes
MAX_CONNECTIONS = 512
#: A client connects and sends in one go; one that does not within this time has died or is not ours.
REQUEST_TIMEOUT_S = 120.0
#: How long an answer may take to leave: it is small, and its reader waits for it.
SEND_TIMEOUT_S = 120.0
_CHILD_CONNECTION_FD = 3
_log = logging.getLogger(__name__)


@define(eq=False)
class _Client:
    connection: socket.socket
    uid: int
    connected_s: float
    splitter: LineSplitter
    order: _Order | None = None  # once its line has come


@define(eq=False)
class _Order:
    """A call that waits or runs."""

    client: _Client
    call: HelperCall
    queued: QueuedCall[_Order] = field(init=False)
    ticket: int | None = None  # while it waits
    pid: int | None = None  # of its child
    pidfd: int = -1
    is_killed: bool = False  # its caller hung up, perhaps with the answer, while the child was about to end


class HelperServer:
    """Accepts, queues, forks and reaps; `run` ends on SIGTERM or SIGINT when the last child has ended."""

    def __init__(
        self,
        listener: socket.socket,
        operations: Mapping[str, Operation],
        *,
        limits: QueueLimits = DEFAULT_LIMITS,
        monotonic_s: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._listener = listener
        self._operations = operations
        self._monotonic_s = monotonic_s
        self._queue: CallQueue[_Order] = CallQueue(limits)
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._notify_address = sd_notify.socket_address(environment.get("NOTIFY_SOCKET"))
        self._watchdog_s = sd_notify.watchdog_interval_s(environment, os.getpid())
        self._fed_s = monotonic_s()

    def run(self) -> None:
        """Serve until a signal ends it."""
        self._listener.setblocking(False)
        woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._selector.register(woken, selectors.EVENT_READ, lambda: os.read(woken, 64))
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        gc.collect()
        gc.freeze()  # what is here by now is never looked at again, and so not copied by a child's collector
        self._notify("READY=1")
        while not self._stopping or self._queue.running:
            for key, _ in self._selector.select(self._wait_s()):
                key.data()
            self._feed_watchdog()
            self._drop_late()
            if not self._stopping:
                for queued in self._queue.take_ready():
                    self._fork(queued.payload)
        for client in list(self._clients):
            self._close(client)

    # ---- connections ---------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # the caller is gone already, or descriptors ran out
                _log.warning("a connection was not accepted: %s", error.strerror)
                return
            _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            client = _Client(connection, uid, self._monotonic_s(), LineSplitter())
            if len(self._clients) >= MAX_CONNECTIONS:
                self._clients.add(client)
                self._answer(client, None, _busy(f"{MAX_CONNECTIONS} connections are open"))
                continue
            connection.setblocking(False)
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, partial(self._readable, client))

    def _readable(self, client: _Client) -> None:
        """Its request, or its end; a client sends one line and nothing after it."""
        if client not in self._clients:  # closed by another event of the same turn
            return
        try:
            data = client.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hung_up(client)
        elif client.order is None:
            try:
                line = next(client.splitter.feed(data), None)
            except LineTooLong as error:
                refusal = RpcError(INTERNAL, "invalid request", {"hint": str(error)})
                self._answer(client, None, refusal)
                return
            if line is not None:
                self._request(client, line)

    def _request(self, client: _Client, line: bytes) -> None:
        try:
            call = read_call(self._operations, client.uid, line)
        except RefusedCall as refused:
            self._answer(client, refused.id, refused.error)
            return
        order = client.order = _Order(client, call)
        exclusive = call.operation.exclusive(call.params)
        order.queued = QueuedCall(call.group, call.expires_s, order, exclusive)
        order.ticket = self._queue.admit(order.queued)
        if order.ticket is None:
            running, waiting = self._queue.counts_of(call.group)
            self._answer(client, call.id, _busy(f"{running} calls for this store run and {waiting} wait"))

    def _hung_up(self, client: _Client) -> None:
        order = client.order
        if order is None or order.pid is None:
            if order is not None and order.ticket is not None:
                self._queue.withdraw(order.ticket)
            self._close(client)
            return
        # stop reading: an end of file would be reported again and again
        self._selector.unregister(client.connection)
        if order.call.operation.cancellable:
            order.is_killed = True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(order.pidfd, signal.SIGKILL)

    def _drop_late(self) -> None:
        now_s = self._monotonic_s()
        for queued in self._queue.take_expired(now_s):
            order = queued.payload
            self._answer(
                order.client, order.call.id, _busy("the call's deadline passed before its turn came")
            )
        for client in list(self._clients):
            if client.order is None and now_s - client.connected_s > REQUEST_TIMEOUT_S:
                self._close(client)

    def _answer(self, client: _Client, call_id: MessageId | None, error: RpcError) -> None:
        """A refusal, sent by this process: it is small, and a fresh connection has room for it."""
        client.connection.setblocking(False)
        with contextlib.suppress(OSError):
            send_answer(client.connection, call_id, error)
        self._close(client)

    def _close(self, client: _Client) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()
        self._clients.discard(client)

    # ---- children ------------------------------------------------------------------------------------------

    def _fork(self, order: _Order) -> None:
        order.ticket = None
        with contextlib.suppress(OSError):  # it has gone
            order.client.connection.send(BEGUN_LINE, socket.MSG_DONTWAIT)
        try:
            pid = os.fork()
        except OSError as error:
            self._queue.ended(order.queued)
            self._answer(order.client, order.call.id, _busy(f"no process can be started: {error.strerror}"))
            return
        if pid == 0:
            _run_child(order.client.connection, order.call)
        order.pid, order.pidfd = pid, os.pidfd_open(pid)
        self._selector.register(order.pidfd, selectors.EVENT_READ, partial(self._child_ended, order, pid))

    def _child_ended(self, order: _Order, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(order.pidfd)
        os.close(order.pidfd)
        self._queue.ended(order.queued)
        if status and not order.is_killed:
            how = os.waitstatus_to_exitcode(status)
            _log.warning("a child ended before its call was done: exit status %d", how)
        # a child that answered closed its own end; the caller of one that did not sees the connection end
        self._close(order.client)

    # ---- the service manager -------------------------------------------------------------------------------

    def _stop(self, *_: object) -> None:
        self._stopping = True
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._listener)
        self._notify("STOPPING=1")

    def _wait_s(self) -> float | None:
        """Until something is due: a sign of life, a deadline in the queue, a client that never asks."""
        due = [self._fed_s + self._watchdog_s] if self._watchdog_s is not None else []
        due += [client.connected_s + REQUEST_TIMEOUT_S for client in self._clients if client.order is None]
        expires_s = self._queue.next_expiry_s
        due += [expires_s] if expires_s is not None else []
        return max(0.0, min(due) - self._monotonic_s()) if due else None

    def _feed_watchdog(self) -> None:
        now_s = self._monotonic_s()
        if self._watchdog_s is not None and now_s - self._fed_s >= self._watchdog_s:
            self._fed_s = now_s
            self._notify("WATCHDOG=1")

    def _notify(self, assignment: str) -> None:
        try:
            sd_notify.send(self._notify_address, assignment)
        except OSError as error:
            _log.warning("the service manager was not told %s: %s", assignment, error.strerror)


def _run_child(connection: socket.socket, call: HelperCall) -> None:
    """The child's whole life: nothing of the parent's but the connection, one operation, its answer."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        gc.disable()  # it lives for milliseconds
        own = socket.socket(fileno=_keep_only(connection.fileno()))
        own.settimeout(SEND_TIMEOUT_S)
        try:
            outcome = call.perform()
        except RpcError as error:
            send_answer(own, call.id, error)
        else:
            send_answer(own, call.id, outcome)
        code = 0
    except BaseException:
        _log.exception("the child failed")
    finally:
        os._exit(code)


def _keep_only(descriptor: int) -> int:
    """Close every descriptor beyond standard error but this one; its new number."""
    if descriptor != _CHILD_CONNECTION_FD:
        os.dup2(descriptor, _CHILD_CONNECTION_FD, inheritable=False)
    os.closerange(_CHILD_CONNECTION_FD + 1, os.sysconf("SC_OPEN_MAX"))
    return _CHILD_CONNECTION_FD


def _busy(what: str) -> RpcError:
    return RpcError.refused(
        TransferFailure.BUSY.value, f"the store's helper is busy: {what}", "try again later"
    )


def serve_inherited_socket(operations: Mapping[str, Operation]) -> int:
    """The `main` of a helper: the listening socket comes from the service manager. Its exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    os.umask(0o022)
    if os.environ.pop("LISTEN_FDS", "") != "1" or os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        sys.stderr.write("no listening socket was passed: start this helper's .socket unit\n")
        return 1
    with socket.socket(fileno=LISTEN_FD) as listener:
        listener.set_inheritable(False)
        HelperServer(listener, operations).run()
    return 0
