# SPDX-License-Identifier: Apache-2.0
"""CloudStack's password server: a machine asks for its password until it says that it has saved it.

Its client is cloud-set-guest-password, or cloud-init's DataSourceCloudStack. A machine is known by the
address that it asks from. The files are in memory (`/run`); one is deleted when its machine has the password.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from systemvm.host.guest_services import GuestPassword

HEADER = "DomU_Request"
_SEND, _SAVED = "send_my_password", "saved_password"
_BAD_REQUEST = "bad_request"
_WAITING, _TAKEN = ".password", ".taken"
#: More are marked in the next answer.
MAX_TAKEN = 500


class PasswordDirectory:
    """The passwords of one bridge's machines: a file for each by its machine and its id.

    A new password is another file, so that a machine which still answers for the one before does not
    delete it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, machine: str, password: GuestPassword | None) -> None:
        """Have this password wait for a machine, unless it has taken it already, and no other."""
        wanted = None if password is None else f"{machine}_{password.id}"
        for path in self._directory.glob(f"{machine}_*"):
            if path.stem != wanted and path.suffix in (_WAITING, _TAKEN):
                path.unlink()
        if password is None or (self._directory / f"{wanted}{_TAKEN}").exists():
            return
        new = self._directory / f"{wanted}.new"
        new.write_text(password.text)
        new.replace(new.with_suffix(_WAITING))

    def waiting(self, peer: str) -> str | None:
        """Return the password of the machine that asks; None when it has taken it or there is none."""
        path = self._waiting(peer)
        return None if path is None else path.read_text()

    def take(self, peer: str) -> None:
        """Forget the password of the machine that has saved it, and keep a mark."""
        path = self._waiting(peer)
        if path is not None:
            # the mark first: a process that ends in between has not lost it
            path.with_suffix(_TAKEN).touch()
            path.unlink()

    def taken(self) -> list[str]:
        """Return the ids of passwords that were taken."""
        return [path.stem.rpartition("_")[2] for path in sorted(self._directory.glob(f"*{_TAKEN}"))]

    def _waiting(self, peer: str) -> Path | None:
        try:
            paths = self._directory.glob(f"{IPv4Address(peer)}_*{_WAITING}")
        except ValueError:
            return None
        found = [path for path in paths if not path.with_suffix(_TAKEN).exists()]
        # of two machines with this address it is not known which one asks
        return found[0] if len({path.stem.rpartition("_")[0] for path in found}) == 1 else None


def answer(asked: str, passwords: PasswordDirectory, peer: str) -> tuple[int, str]:
    """Return status and body for a value of DomU_Request."""
    if asked == _SEND:
        return 200, passwords.waiting(peer) or _SAVED
    if asked == _SAVED:
        passwords.take(peer)
        return 200, _SAVED
    return 400, _BAD_REQUEST
