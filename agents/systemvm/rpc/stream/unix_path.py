# SPDX-License-Identifier: Apache-2.0
"""Listens on a UNIX socket: at a path, where a dead predecessor can have left one, or inherited."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet import unix
from twisted.internet.interfaces import IListeningPort


def listen_at(reactor: Any, where: str | Path | int, factory: Any, mode: int) -> IListeningPort:
    """Listen at a path, or on a listening descriptor, which the caller can close afterwards."""
    listening: IListeningPort
    if isinstance(where, int):
        os.set_blocking(where, False)  # systemd passes it blocking; Twisted accepts until it would block
        port: Any = unix.Port._fromListeningDescriptor(reactor, where, factory)
        # The path belongs to whoever created it. Twisted would chmod it to 0666, which fails where another
        # user owns it, and unlink it at the end; a name outside the file system prevents both.
        port._bindPath = b"\0inherited"
        # The socket stays systemd's, whose next service listens on it: Twisted would shut it down at the end
        # (it sets this for inherited TCP ports only), and every later connection would be refused.
        port._shouldShutdown = False
        port.startListening()
        listening = port
        return listening
    remove_stale(Path(where))
    listening = reactor.listenUNIX(os.fspath(where), factory, mode=mode)
    return listening


def remove_stale(path: Path) -> None:
    """Remove a socket without a listener.

    Raises: OSError when it has one, or when the path is not a socket.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "not a socket; move it away", os.fspath(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # its queue is full: it has a listener
    raise OSError(errno.EADDRINUSE, "another process listens here; stop it first", os.fspath(path))
