# SPDX-License-Identifier: Apache-2.0
"""The bridge's handshakes with viewers of every version, and with a console proxy."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cli.daemon_client import CommandFailedError
from systemvm.cli.vnc_bridge.handshakes import ScreenHandshake, ViewerHandshake, new_password
from systemvm.cli.vnc_bridge.listener import ViewerListener
from systemvm.cpvm.rfb import BrowserHandshake
from systemvm.service.rfb_handshake import RfbError, vnc_auth_response

SERVER_INIT = b"\x02\x80\x01\xe0" + bytes(16) + b"\0\0\0\x03web"
VERSIONS = {3: b"RFB 003.003\n", 7: b"RFB 003.007\n", 8: b"RFB 003.008\n"}


def offered(handshake: ViewerHandshake, minor: int) -> bytes:
    """Return the challenge, if any, after the choice of a security type."""
    first = handshake.receive(VERSIONS[minor])
    kind = first[-1] if minor == 3 else first[1]
    if minor == 3:
        return first[4:]
    return handshake.receive(bytes([kind]))


@pytest.mark.parametrize("minor", VERSIONS)
def test_viewers_of_each_version_are_admitted_by_the_password(minor: int) -> None:
    handshake = ViewerHandshake("Secret88")
    challenge = offered(handshake, minor)
    assert len(challenge) == 16
    assert handshake.receive(vnc_auth_response(challenge, "Secret88")) == bytes(4)
    assert not handshake.done
    handshake.receive(b"\x01early")
    assert (handshake.done, handshake.is_refused, handshake.rest()) == (True, False, b"early")


@pytest.mark.parametrize("minor", VERSIONS)
def test_a_wrong_password_is_refused_in_the_form_of_each_version(minor: int) -> None:
    handshake = ViewerHandshake("Secret88")
    challenge = offered(handshake, minor)
    answer = handshake.receive(vnc_auth_response(challenge, "secret88"))
    assert answer[:4] == b"\0\0\0\x01"
    assert (b"wrong password" in answer) == (minor == 8)
    assert (handshake.done, handshake.is_refused) == (True, True)


@pytest.mark.parametrize(("minor", "result"), [(3, b""), (7, b""), (8, bytes(4))])
def test_a_socket_of_this_user_needs_no_password(minor: int, result: bytes) -> None:
    handshake = ViewerHandshake(None)
    assert offered(handshake, minor) == result
    handshake.receive(b"\0")
    assert handshake.done


def test_a_type_that_was_not_offered_is_an_error() -> None:
    handshake = ViewerHandshake("Secret88")
    handshake.receive(VERSIONS[8])
    with pytest.raises(RfbError, match="not offered"):
        handshake.receive(b"\x01")


@given(st.lists(st.integers(1, 40)), st.booleans())
def test_the_console_proxys_own_handshake_is_understood_in_any_pieces(
    sizes: list[int], is_connected: bool
) -> None:
    """The proxy sends ServerInit when the VM's screen is connected: with the first answer, or at the end."""
    proxy, screen = BrowserHandshake(), ScreenHandshake()
    to_screen, left = BrowserHandshake.GREETING, SERVER_INIT + b"early"
    while to_screen:
        answer = b""
        for size in [*sizes, len(to_screen)]:
            piece, to_screen = to_screen[:size], to_screen[size:]
            answer += screen.receive(piece)
        to_screen = proxy.receive(answer) if answer else b""
        if proxy.done or (proxy.may_get_server_init and is_connected):
            to_screen, left = to_screen + left, b""
    assert (screen.done, screen.server_init, screen.rest()) == (True, SERVER_INIT, b"early")


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200",
        b"RFB 003.003\n",
        b"RFB 003.008\n\x01\x02",
        b"RFB 003.008\n\x01\x01\0\0\0\x01",
        b"RFB 003.008\n\x01\x01\0\0\0\0" + bytes(20) + b"\xff" * 4,
    ],
)
def test_anything_else_of_a_console_proxy_is_an_error(sent: bytes) -> None:
    with pytest.raises(RfbError):
        ScreenHandshake().receive(sent)


def test_a_password_has_eight_characters_and_is_another_one_each_time() -> None:
    passwords = {new_password() for _ in range(50)}
    assert len(passwords) == 50
    assert {len(password) for password in passwords} == {8}


def test_sockets_are_private_and_leave_nothing(tmp_path: Path) -> None:
    listener = ViewerListener.at_path(tmp_path / "screen")
    assert stat.S_IMODE((tmp_path / "screen").stat().st_mode) == 0o600
    assert listener.password is None
    with pytest.raises(CommandFailedError, match="cannot listen"):
        ViewerListener.at_path(tmp_path / "screen")
    listener.close()
    assert list(tmp_path.iterdir()) == []
    private = ViewerListener.private()
    assert private.folder is not None
    assert stat.S_IMODE(private.folder.stat().st_mode) == 0o700
    private.close()
    assert not private.folder.exists()
    with pytest.raises(CommandFailedError, match="too long"):
        ViewerListener.at_path(tmp_path / ("x" * 108))
