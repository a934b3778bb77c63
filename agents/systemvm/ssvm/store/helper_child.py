# SPDX-License-Identifier: Apache-2.0
"""The child that a helper forks for a call: it runs one operation, sends its response, and exits."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from functools import partial
from typing import NoReturn

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.helper_call import HelperCall, send_answer, send_progress

#: How long it can take to send a response: it is small, and its reader waits for it.
SEND_TIMEOUT_S = 120.0
_CONNECTION_FD = 3
_log = logging.getLogger(__name__)


def run_child(connection: socket.socket, call: HelperCall) -> NoReturn:
    """Keep nothing of the parent but the connection; run the operation, send its response, and exit."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        gc.disable()  # it lives for milliseconds
        own = socket.socket(fileno=_keep_only(connection.fileno()))
        own.settimeout(SEND_TIMEOUT_S)
        try:
            outcome = call.perform(partial(send_progress, own))
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
    """Close every descriptor beyond standard error except this one; return its new number."""
    if descriptor != _CONNECTION_FD:
        os.dup2(descriptor, _CONNECTION_FD, inheritable=False)
    os.closerange(_CONNECTION_FD + 1, os.sysconf("SC_OPEN_MAX"))
    return _CONNECTION_FD
