# SPDX-License-Identifier: Apache-2.0
"""A resident root helper: one warm process that accepts calls and has forked children run them.

The parent never accesses a store, so it never hangs; a child that hangs in the kernel blocks only one slot of
its own store. A call costs a fork at most, not a unit or an interpreter, which cost 6 CPU seconds a call on
a busy machine without KVM. Nothing here needs Twisted, whose reactor cannot be forked.
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
from systemvm.ssvm.store.helper_children import KEPT_S, Child, Children
from systemvm.wire.transfer_failure import TransferFailure

LISTEN_FD = 3  # sd_listen_fds(3): the first that the service manager passes
MAX_CONNECTIONS = 512
#: A client sends its request as soon as it is connected; one that has not by then is dead or is not ours.
REQUEST_TIMEOUT_S = 120.0
_log = logging.getLogger(__name__)


@define(eq=False)
class _Client:
    connection: socket.socket
    uid: int
    connected_s: float
    splitter: LineSplitter
    pending: _PendingCall | None = None  # once its request was received


@define(eq=False)
class _PendingCall:
    """A call that waits or runs."""

    client: _Client
    call: HelperCall
    line: bytes
    queued: QueuedCall[_PendingCall] = field(init=False)
    ticket: int | None = None  # while it waits
    child: Child[_PendingCall] | None = None  # while it runs


class HelperServer:
    """Accepts, queues and answers; `run` ends on SIGTERM or SIGINT when the last call has ended."""

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
        self._queue: CallQueue[_PendingCall] = CallQueue(limits)
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        self._children = Children(self._selector, operations, monotonic_s, self._call_ended)
        self._stopping = False
        self._notify_address = sd_notify.socket_address(environment.get("NOTIFY_SOCKET"))
        self._watchdog_s = sd_notify.watchdog_interval_s(environment, os.getpid())
        self._fed_s = monotonic_s()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        self._listener.setblocking(False)
        woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._selector.register(woken, selectors.EVENT_READ, lambda: os.read(woken, 64))
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        gc.collect()
        gc.freeze()  # objects from before are not collected, so a child's collector does not copy their pages
        self._notify("READY=1")
        while not self._stopping or self._queue.running:
            for key, _ in self._selector.select(self._wait_s()):
                key.data()
            self._feed_watchdog()
            self._drop_expired()
            self._children.end_kept(KEPT_S)
            if not self._stopping:
                for queued in self._queue.take_ready():
                    self._begin(queued.payload)
        self._children.end_kept()
        for client in list(self._clients):
            self._close(client)

    # ---- connections ---------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # the caller has disconnected, or there is no descriptor left
                _log.warning("cannot accept a connection: %s", error.strerror)
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
        """Read a request, or the end of the connection; a client sends one line and nothing after it."""
        if client not in self._clients:  # closed by another event of the same iteration
            return
        try:
            data = client.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnected(client)
        elif client.pending is None:
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
        pending = client.pending = _PendingCall(client, call, line)
        exclusive = call.operation.exclusive(call.params)
        pending.queued = QueuedCall(call.group, call.expires_s, pending, exclusive)
        pending.ticket = self._queue.admit(pending.queued)
        if pending.ticket is None:
            running, waiting = self._queue.counts_of(call.group)
            self._answer(
                client, call.id, _busy(f"{running} calls for this store are running and {waiting} are queued")
            )

    def _disconnected(self, client: _Client) -> None:
        pending = client.pending
        if pending is None or pending.child is None:
            if pending is not None and pending.ticket is not None:
                self._queue.withdraw(pending.ticket)
            self._close(client)
            return
        # stop reading: the end of the connection would be reported again and again
        self._selector.unregister(client.connection)
        if pending.call.operation.cancellable:
            pending.child.kill()

    def _drop_expired(self) -> None:
        now_s = self._monotonic_s()
        for queued in self._queue.take_expired(now_s):
            pending = queued.payload
            self._answer(
                pending.client, pending.call.id, _busy("the deadline of the call passed while it was queued")
            )
        for client in list(self._clients):
            if client.pending is None and now_s - client.connected_s > REQUEST_TIMEOUT_S:
                self._close(client)

    def _answer(self, client: _Client, call_id: MessageId | None, error: RpcError) -> None:
        """Send an error from this process: it is small, and a new connection has room for it."""
        client.connection.setblocking(False)
        with contextlib.suppress(OSError):
            send_answer(client.connection, call_id, error)
        self._close(client)

    def _close(self, client: _Client) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()
        self._clients.discard(client)

    # ---- calls ---------------------------------------------------------------------------------------------

    def _begin(self, pending: _PendingCall) -> None:
        pending.ticket = None
        connection = pending.client.connection
        with contextlib.suppress(OSError):  # it has disconnected
            connection.send(BEGUN_LINE, socket.MSG_DONTWAIT)
        try:
            pending.child = self._children.run(connection, pending.call, pending.line, pending)
        except OSError as error:
            self._queue.ended(pending.queued)
            self._answer(pending.client, pending.call.id, _busy(f"cannot fork: {error.strerror}"))

    def _call_ended(self, pending: _PendingCall, status: int) -> None:
        self._queue.ended(pending.queued)
        if status and not (pending.child is not None and pending.child.is_killed):
            how = os.waitstatus_to_exitcode(status)
            _log.warning("a child ended before its call was complete: exit status %d", how)
        # a child that responded has closed its own end; otherwise the caller sees a lost connection
        self._close(pending.client)

    # ---- the service manager -------------------------------------------------------------------------------

    def _stop(self, *_: object) -> None:
        self._stopping = True
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._listener)
        self._notify("STOPPING=1")

    def _wait_s(self) -> float | None:
        """Seconds until a watchdog message, a deadline in the queue, or a client without a request is due."""
        due = [self._fed_s + self._watchdog_s] if self._watchdog_s is not None else []
        due += [client.connected_s + REQUEST_TIMEOUT_S for client in self._clients if client.pending is None]
        expires_s = self._queue.next_expiry_s
        due += [each for each in (expires_s, self._children.next_end_s) if each is not None]
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
            _log.warning("cannot notify the service manager of %s: %s", assignment, error.strerror)


def _busy(what: str) -> RpcError:
    return RpcError.refused(TransferFailure.BUSY, f"store helper is busy: {what}", "retry later")


def serve_inherited_socket(operations: Mapping[str, Operation]) -> int:
    """Serve on the socket that the service manager passes; the `main` of a helper. Return its exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    os.umask(0o022)
    if os.environ.pop("LISTEN_FDS", "") != "1" or os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        sys.stderr.write("no listening socket was passed; start the .socket unit of this helper\n")
        return 1
    with socket.socket(fileno=LISTEN_FD) as listener:
        listener.set_inheritable(False)
        HelperServer(listener, operations).run()
    return 0
