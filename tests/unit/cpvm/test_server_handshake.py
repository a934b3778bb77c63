# SPDX-License-Identifier: Apache-2.0
"""The handshake with a VNC server: all versions, every truncation and split, and invalid servers."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm.rfb import PasswordRefusedError, PasswordUnusedError, ServerInit
from systemvm.cpvm.server_handshake import ServerHandshake
from systemvm.service.rfb_handshake import RfbError, vnc_auth_response

PIXEL_FORMAT = bytes(range(16))
SCREEN = b"\x02\x80\x01\xe0" + PIXEL_FORMAT + b"\0\0\0\x04QEMU"
CHALLENGE = bytes(range(16))
RESPONSE = vnc_auth_response(CHALLENGE, "s3cr3t8x")
OK = bytes(4)

# (what the server sends, password, what it must receive)
DIALOGUES = {
    "3.8 none": (b"RFB 003.008\n" + b"\x01\x01" + OK + SCREEN, None, b"RFB 003.008\n\x01\x01"),
    "3.8 password": (
        b"RFB 003.008\n" + b"\x02\x13\x02" + CHALLENGE + OK + SCREEN,
        "s3cr3t8x",
        b"RFB 003.008\n\x02" + RESPONSE + b"\x01",
    ),
    "3.7 none": (b"RFB 003.007\n" + b"\x02\x02\x01" + SCREEN, None, b"RFB 003.007\n\x01\x01"),
    "3.7 password": (
        b"RFB 003.007\n" + b"\x01\x02" + CHALLENGE + OK + SCREEN,
        "s3cr3t8x",
        b"RFB 003.007\n\x02" + RESPONSE + b"\x01",
    ),
    "3.3 none": (b"RFB 003.003\n" + b"\0\0\0\x01" + SCREEN, None, b"RFB 003.003\n\x01"),
    "3.3 password": (
        b"RFB 003.003\n" + b"\0\0\0\x02" + CHALLENGE + OK + SCREEN,
        "s3cr3t8x",
        b"RFB 003.003\n" + RESPONSE + b"\x01",
    ),
    "3.889, Apple's": (b"RFB 003.889\n" + b"\x01\x01" + OK + SCREEN, None, b"RFB 003.008\n\x01\x01"),
    "3.5, not standard": (b"RFB 003.005\n" + b"\0\0\0\x01" + SCREEN, None, b"RFB 003.003\n\x01"),
    "4.1": (b"RFB 004.001\n" + b"\x01\x01" + OK + SCREEN, None, b"RFB 003.008\n\x01\x01"),
}


@pytest.fixture(params=list(DIALOGUES.values()), ids=list(DIALOGUES))
def dialogue(request: pytest.FixtureRequest) -> tuple[bytes, str | None, bytes]:
    found: tuple[bytes, str | None, bytes] = request.param
    return found


def test_each_version_is_spoken(dialogue: tuple[bytes, str | None, bytes]) -> None:
    server, password, reply = dialogue
    handshake = ServerHandshake(password)
    assert handshake.receive(server) == reply
    assert handshake.done
    assert handshake.server_init == ServerInit(640, 480, PIXEL_FORMAT, "QEMU")
    assert handshake.rest() == b""


def test_a_handshake_can_be_split_anywhere(dialogue: tuple[bytes, str | None, bytes]) -> None:
    server, password, reply = dialogue
    for at in range(len(server) + 1):
        handshake = ServerHandshake(password)
        assert handshake.receive(server[:at]) + handshake.receive(server[at:]) == reply
        assert handshake.done


def test_a_truncated_handshake_is_not_done(dialogue: tuple[bytes, str | None, bytes]) -> None:
    server, password, _ = dialogue
    for at in range(len(server)):
        handshake = ServerHandshake(password)
        handshake.receive(server[:at])
        assert not handshake.done
        with pytest.raises(RuntimeError):
            _ = handshake.server_init


def test_bytes_after_the_handshake_are_returned() -> None:
    handshake = ServerHandshake(None)
    handshake.receive(DIALOGUES["3.8 none"][0] + b"picture")
    assert handshake.rest() == b"picture"


@given(st.binary(max_size=400), st.sampled_from([None, "12345678"]))
def test_any_bytes_are_parsed_or_refused(noise: bytes, password: str | None) -> None:
    for start in (b"", b"RFB 003.008\n", b"RFB 003.003\n", b"RFB 003.008\n\x01\x01\0\0\0\0"):
        with suppress(RfbError):
            ServerHandshake(password).receive(start + noise)


@pytest.mark.parametrize(
    ("server", "password", "error", "message"),
    [
        (b"RFB 003.008\n\x01\x01", "12345678", PasswordUnusedError, "does not require the password"),
        (b"RFB 003.003\n\0\0\0\x01", "12345678", PasswordUnusedError, "does not require the password"),
        (b"RFB 003.008\n\x01\x02", None, PasswordRefusedError, "none is known"),
        (b"RFB 003.008\n\x02\x05\x13", "12345678", RfbError, r"no supported security type: \[5, 19\]"),
        (b"RFB 003.008\n\x01\x02" + CHALLENGE + b"\0\0\0\x01\0\0\0\x03bad", "12345678", PasswordRefusedError, "bad"),  # noqa: E501
        (b"RFB 003.003\n\0\0\0\x02" + CHALLENGE + b"\0\0\0\x01", "12345678", PasswordRefusedError, "reject"),
        (b"RFB 003.008\n\x00\0\0\0\x04busy", None, RfbError, "busy"),
        (b"RFB 003.003\n\0\0\0\0\0\0\0\x04busy", None, RfbError, "busy"),
        (b"RFB 003.008\n\x00\xff\xff\xff\xff", None, RfbError, "too long"),
        (b"RFB 003.008\n\x00\x00\x00\x10\x01", None, RfbError, "too long"),
        (b"RFB 003.008\n\x01\x01" + OK + SCREEN[:20] + b"\xff\xff\xff\xff", None, RfbError, "too long"),
        (b"RFB 002.009\n", None, RfbError, "not supported"),
        (b"RFB 003,008\n", None, RfbError, "invalid RFB version"),
        (b"RFB 00x.008\n", None, RfbError, "invalid RFB version"),
        (b"SSH-2.0-Open", None, RfbError, "invalid RFB version"),
    ],
)  # fmt: skip
def test_unusable_servers_are_errors(
    server: bytes, password: str | None, error: type[RfbError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        ServerHandshake(password).receive(server)
    assert type(raised.value) is error
    assert "12345678" not in str(raised.value)


def test_a_reason_of_the_server_is_made_printable() -> None:
    with pytest.raises(RfbError) as raised:
        ServerHandshake(None).receive(b"RFB 003.008\n\x00\0\0\0\x0b\x1b[2J\r\nbad\xff\0")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("password", "response"),
    [  # Computed with noVNC's own DES (core/crypto/des.js).
        ("", "491e890de9ace932838a49792f2213f3"),
        ("s3cr3t8x", "c79fd8169f36e06419661b6046b009f0"),
        ("12345678", "83dd2b4dbd04367f28578fdd5b142740"),
        ("12345678 and the rest", "83dd2b4dbd04367f28578fdd5b142740"),
        ("pä", "33f6b2e7f5689670d9a020d419291b72"),
    ],
)
def test_vnc_auth_response_is_that_of_novnc(password: str, response: str) -> None:
    assert vnc_auth_response(CHALLENGE, password).hex() == response


@pytest.mark.parametrize(
    ("password", "tls", "sent"),
    [(None, False, b"\x01\x01"), ("12345678", False, b"\x02"), (None, True, b"\x13")],
)
def test_the_list_of_security_types_is_not_waited_for(password: str | None, tls: bool, sent: bytes) -> None:
    """What the target has set leaves no choice; a server that does not offer it is refused all the same."""
    handshake = ServerHandshake(password, tls=tls)
    assert handshake.receive(b"RFB 003.008\n") == b"RFB 003.008\n" + sent
    with pytest.raises(RfbError):
        handshake.receive(b"\x01\x05")


def test_the_result_of_security_is_not_waited_for() -> None:
    """A round trip with the hypervisor less: ClientInit is on its way before the server's verdict."""
    handshake = ServerHandshake("s3cr3t8x")
    assert handshake.receive(b"RFB 003.008\n" + b"\x01\x02" + CHALLENGE)[-17:] == RESPONSE + b"\x01"
    assert not handshake.done
    with pytest.raises(PasswordRefusedError):
        handshake.receive(b"\0\0\0\x01\0\0\0\x03bad")
