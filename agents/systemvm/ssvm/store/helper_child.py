# SPDX-License-Identifier: Apache-2.0
"""The child that a helper forks for a call: it runs operations, one after another, and sends their responses.

After its first call it waits for others of the same caller and store, until the helper closes its channel.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.helper_call import HelperCall, send_answer, send_progress

#: How long it can take to send a response: it is small, and its reader waits for it.
SEND_TIMEOUT_S = 120.0
#: The longest request that is sent over the channel; a longer one gets a child of its own.
MAX_REQUEST_BYTES = 64 * 1024
#: What a child sends over its channel after each call.
DONE = b"\n"
_CONNECTION_FD, _CHANNEL_FD = 3, 4
_log = logging.getLogger(__name__)


def run_child(
    connection: socket.socket, call: HelperCall, channel: socket.socket, read: Callable[[bytes], HelperCall]
) -> NoReturn:
    """Keep nothing of the parent but connection and channel; run `call`, then those that the channel brings.

    Each comes as its line, which `read` parses, with its connection.
    """
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        gc.disable()  # it lives for seconds
        _keep_only(connection.fileno(), channel.fileno())
        calls = socket.socket(fileno=_CHANNEL_FD)
        _perform(socket.socket(fileno=_CONNECTION_FD), call)
        while True:
            calls.send(DONE)
            line, descriptors, _, _ = socket.recv_fds(calls, MAX_REQUEST_BYTES, 1)
            if not line:
                break
            _perform(socket.socket(fileno=descriptors[0]), read(line))
        code = 0
    except BrokenPipeError:  # the helper has ended
        code = 0
    except BaseException:
        _log.exception("the child failed")
    finally:
        os._exit(code)


def _perform(connection: socket.socket, call: HelperCall) -> None:
    with connection:
        connection.settimeout(SEND_TIMEOUT_S)
        try:
            outcome = call.perform(partial(send_progress, connection))
        except RpcError as error:
            send_answer(connection, call.id, error)
        else:
            send_answer(connection, call.id, outcome)


def _keep_only(connection: int, channel: int) -> None:
    """Give the two their numbers, and close every other descriptor beyond standard error."""
    # first move them away from the numbers that they will have
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, _CHANNEL_FD + 1) for each in (connection, channel)]
    for source, target in zip(high, (_CONNECTION_FD, _CHANNEL_FD), strict=True):
        os.dup2(source, target, inheritable=False)
    os.closerange(_CHANNEL_FD + 1, os.sysconf("SC_OPEN_MAX"))
