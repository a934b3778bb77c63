# SPDX-License-Identifier: Apache-2.0
"""VeNCrypt: TLS within the handshake with a VNC server, and servers that offer less than is set."""

from __future__ import annotations

from contextlib import suppress

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm.rfb import PasswordRefusedError, PasswordUnusedError, ServerInit, TlsUnusedError
from systemvm.cpvm.server_handshake import ServerHandshake
from systemvm.service.rfb_handshake import RfbError, vnc_auth_response

PIXEL_FORMAT = bytes(range(16))
SCREEN = b"\x02\x80\x01\xe0" + PIXEL_FORMAT + b"\0\0\0\x04QEMU"
CHALLENGE = bytes(range(16))
OK = bytes(4)
PASSWORD = "s3cr3t8x"


def subtypes(*numbers: int) -> bytes:
    return bytes([len(numbers)]) + b"".join(number.to_bytes(4, "big") for number in numbers)


def offer(*numbers: int, version: bytes = b"RFB 003.008\n") -> bytes:
    """Return what a server sends before TLS when it accepts one of its subtypes."""
    return version + b"\x01\x13" + b"\0\x02" + b"\0" + subtypes(*numbers) + b"\x01"


@frozen
class Dialogue:
    before: bytes
    within: bytes
    password: str | None
    username: str | None
    sent_before: bytes
    sent_within: bytes

    def start(self) -> ServerHandshake:
        return ServerHandshake(self.password, username=self.username, tls=True)


CHOICE = b"RFB 003.008\n\x13\0\x02"
DIALOGUES = {
    "X509None": Dialogue(offer(260), OK + SCREEN, None, None, CHOICE + (260).to_bytes(4, "big"), b"\x01"),
    "X509Vnc": Dialogue(
        offer(257, 258, 261),
        CHALLENGE + OK + SCREEN,
        PASSWORD,
        None,
        CHOICE + (261).to_bytes(4, "big"),
        vnc_auth_response(CHALLENGE, PASSWORD) + b"\x01",
    ),
    "X509Plain": Dialogue(
        offer(261, 262),
        OK + SCREEN,
        "a longer password",
        "viewer",
        CHOICE + (262).to_bytes(4, "big"),
        b"\0\0\0\x06\0\0\0\x11viewera longer password\x01",
    ),
    "X509None of 3.7": Dialogue(
        offer(260, version=b"RFB 003.007\n"),
        OK + SCREEN,
        None,
        None,
        b"RFB 003.007\n\x13\0\x02" + (260).to_bytes(4, "big"),
        b"\x01",
    ),
}


@pytest.fixture(params=list(DIALOGUES.values()), ids=list(DIALOGUES))
def dialogue(request: pytest.FixtureRequest) -> Dialogue:
    found: Dialogue = request.param
    return found


def test_each_x509_subtype_is_spoken(dialogue: Dialogue) -> None:
    handshake = dialogue.start()
    assert handshake.receive(dialogue.before) == dialogue.sent_before
    assert handshake.needs_tls
    assert not handshake.done
    sent = handshake.tls_started()
    assert sent + handshake.receive(dialogue.within + b"picture") == dialogue.sent_within
    assert handshake.done
    assert not handshake.needs_tls
    assert handshake.server_init == ServerInit(640, 480, PIXEL_FORMAT, "QEMU")
    assert handshake.rest() == b"picture"


def test_both_parts_can_be_split_anywhere(dialogue: Dialogue) -> None:
    for before in range(len(dialogue.before) + 1):
        handshake = dialogue.start()
        sent = handshake.receive(dialogue.before[:before]) + handshake.receive(dialogue.before[before:])
        assert sent == dialogue.sent_before
    for within in range(len(dialogue.within) + 1):
        handshake = dialogue.start()
        handshake.receive(dialogue.before)
        sent = handshake.tls_started() + handshake.receive(dialogue.within[:within])
        assert sent + handshake.receive(dialogue.within[within:]) == dialogue.sent_within
        assert handshake.done


def test_no_secret_is_sent_before_tls(dialogue: Dialogue) -> None:
    handshake = dialogue.start()
    sent = b"".join(handshake.receive(dialogue.before[at : at + 1]) for at in range(len(dialogue.before)))
    assert sent == dialogue.sent_before
    for secret in (dialogue.password, dialogue.username):
        assert secret is None or secret.encode() not in sent


def test_bytes_before_tls_are_refused_at_every_length(dialogue: Dialogue) -> None:
    """They would count as received through TLS."""
    for count in range(1, len(dialogue.within) + 1):
        with pytest.raises(RfbError, match="before TLS"):
            dialogue.start().receive(dialogue.before + dialogue.within[:count])


def test_a_truncated_handshake_is_not_done(dialogue: Dialogue) -> None:
    for at in range(len(dialogue.before)):
        handshake = dialogue.start()
        handshake.receive(dialogue.before[:at])
        assert not handshake.done
        assert not handshake.needs_tls
        with pytest.raises(RuntimeError):
            handshake.tls_started()
    for at in range(len(dialogue.within)):
        handshake = dialogue.start()
        handshake.receive(dialogue.before)
        handshake.tls_started()
        handshake.receive(dialogue.within[:at])
        assert not handshake.done


@pytest.mark.parametrize(
    ("server", "password", "error"),
    [
        # without TLS
        (b"RFB 003.008\n\x01\x01", None, TlsUnusedError),
        (b"RFB 003.008\n\x02\x01\x02", PASSWORD, TlsUnusedError),
        (b"RFB 003.003\n\0\0\0\x01", None, TlsUnusedError),
        (b"RFB 003.003\n\0\0\0\x13", None, TlsUnusedError),
        # with anonymous TLS, or none: Plain, TLSNone, TLSVnc, TLSPlain, TLSSASL
        *((offer(number), PASSWORD, TlsUnusedError) for number in (256, 257, 258, 259, 264)),
        (offer(256, 257, 258, 259), None, TlsUnusedError),
        # without the password, or with one that is not known
        (offer(260), PASSWORD, PasswordUnusedError),
        (offer(261), None, PasswordRefusedError),
        (offer(262), None, PasswordRefusedError),
        (offer(262), PASSWORD, TlsUnusedError),  # it wants a user name
        (offer(), PASSWORD, TlsUnusedError),
        # malformed
        (b"RFB 003.008\n\x01\x13\0\x01", PASSWORD, RfbError),
        (b"RFB 003.008\n\x01\x13\0\x02\x01", PASSWORD, RfbError),
        (offer(261)[:-1] + b"\0", PASSWORD, RfbError),
        (offer(261)[:-1] + b"\x02", PASSWORD, RfbError),
        (b"RFB 003.008\n\x00\xff\xff\xff\xff", PASSWORD, RfbError),
    ],
)
def test_a_server_that_offers_less_is_refused(
    server: bytes, password: str | None, error: type[RfbError]
) -> None:
    with pytest.raises(error) as raised:
        ServerHandshake(password, tls=True).receive(server)
    assert type(raised.value) is error
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    ("password", "username", "subtype"), [(None, None, 260), (PASSWORD, None, 261), (PASSWORD, "viewer", 262)]
)
def test_a_later_refusal_has_its_reason(password: str | None, username: str | None, subtype: int) -> None:
    handshake = ServerHandshake(password, username=username, tls=True)
    handshake.receive(offer(subtype))
    handshake.tls_started()
    if subtype == 261:
        handshake.receive(CHALLENGE)
    with pytest.raises(PasswordRefusedError, match="who are you"):
        handshake.receive(b"\0\0\0\x01\0\0\0\x0bwho are you")


@pytest.mark.parametrize(("password", "username"), [("p" * 256, "viewer"), ("p", "v" * 256)])
def test_credentials_are_bounded(password: str, username: str) -> None:
    handshake = ServerHandshake(password, username=username, tls=True)
    handshake.receive(offer(262))
    with pytest.raises(RfbError, match="too long"):
        handshake.tls_started()


def test_a_server_without_tls_settings_is_not_asked_for_tls() -> None:
    handshake = ServerHandshake(PASSWORD)
    handshake.receive(b"RFB 003.008\n\x02\x13\x02")
    assert not handshake.needs_tls
    with pytest.raises(RfbError, match="no supported security type"):
        ServerHandshake(PASSWORD).receive(b"RFB 003.008\n\x01\x13")


@given(st.integers(0, 60), st.integers(0, 255), st.sampled_from(list(DIALOGUES.values())))
def test_any_changed_byte_is_parsed_or_refused(at: int, value: int, dialogue: Dialogue) -> None:
    before = bytearray(dialogue.before)
    within = bytearray(dialogue.within)
    target = before if at < len(before) else within
    target[(at - (0 if target is before else len(before))) % len(target)] = value
    with suppress(RfbError):
        handshake = dialogue.start()
        handshake.receive(bytes(before))
        if handshake.needs_tls:
            handshake.tls_started()
            handshake.receive(bytes(within))


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(noise: bytes) -> None:
    for start in (b"", b"RFB 003.008\n\x01\x13", b"RFB 003.008\n\x01\x13\0\x02\0", offer(261)):
        handshake = ServerHandshake(PASSWORD, tls=True)
        with suppress(RfbError):
            handshake.receive(start)
            if handshake.needs_tls:
                handshake.tls_started()
            handshake.receive(noise)
