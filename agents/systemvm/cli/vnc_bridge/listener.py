# SPDX-License-Identifier: Apache-2.0
"""Where the bridge listens: a port of loopback with a password, or a UNIX socket of this user alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

from attrs import field, frozen

from systemvm.cli.daemon_client import CommandFailedError
from systemvm.cli.vnc_bridge.handshakes import new_password

_BACKLOG = 8
_LONGEST_PATH_BYTES = 107


@frozen
class ViewerListener:
    """A listening socket; `close` removes what it has in the file system."""

    socket: socket.socket
    address: str  # as TigerVNC's viewer takes it
    password: str | None = field(default=None, repr=False)
    path: Path | None = None
    folder: Path | None = None  # of its own

    @classmethod
    def at_port(cls, port: int) -> ViewerListener:
        """Listen at a port of 127.0.0.1; 0 chooses one.

        Raises: CommandFailedError when it is in use.
        """
        try:
            listening = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        except OSError as error:
            raise CommandFailedError(
                f"cannot listen at 127.0.0.1:{port}: {error.strerror}", "choose another one with --port"
            ) from None
        return cls(listening, f"127.0.0.1::{listening.getsockname()[1]}", new_password())

    @classmethod
    def at_path(cls, path: Path) -> ViewerListener:
        """Listen at a UNIX socket that is made with mode 0600.

        Raises: CommandFailedError when it cannot be made.
        """
        listening = socket.socket(socket.AF_UNIX)
        if len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
            raise CommandFailedError(
                f"path is too long: {path}, the maximum is {_LONGEST_PATH_BYTES} bytes",
                "choose a shorter one",
            )
        before = os.umask(0o177)
        try:
            listening.bind(os.fspath(path))
        except OSError as error:
            listening.close()
            raise CommandFailedError(
                f"cannot listen at {path}: {error.strerror}", "choose a path that does not exist"
            ) from None
        finally:
            os.umask(before)
        listening.listen(_BACKLOG)
        return cls(listening, str(path), path=path)

    @classmethod
    def private(cls) -> ViewerListener:
        """Listen at a UNIX socket in a directory of its own, for a viewer that is started here."""
        folder = Path(tempfile.mkdtemp(prefix="systemvm-vnc-"))
        listener = cls.at_path(folder / "screen")
        return cls(listener.socket, listener.address, path=listener.path, folder=folder)

    def close(self) -> None:
        self.socket.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
