# SPDX-License-Identifier: Apache-2.0
"""What the image's own OpenSSL makes of openssl.cnf: versions, security level, key exchanges, weak keys."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from image.built_image import TOP, BuiltImage
from public_pki import issue

pytestmark = pytest.mark.image

CONF = "/etc/systemvm/openssl.cnf"
UNITS = [TOP / f"systemd/guest/systemvm-{name}.service" for name in ("agent", "serve")]
X25519MLKEM768, X25519, P_256, P_384 = 0x11EC, 0x1D, 0x17, 0x18
SUPPORTED_GROUPS, SUPPORTED_VERSIONS, KEY_SHARE = 10, 43, 51
TLS_1_2, TLS_1_3 = 0x0303, 0x0304
#: Runs in the image: the first message of a client, what a server permits, and whether it takes a chain.
PROGRAM = """
import base64, json, ssl, sys, tempfile
out = ssl.MemoryBIO()
client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.example")
try:
    client.do_handshake()
except ssl.SSLWantReadError:
    pass
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
def takes(pem):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(pem)
        file.flush()
        try:
            server.load_cert_chain(file.name)
        except ssl.SSLError as error:
            return error.reason
    return ""
print(json.dumps({
    "hello": base64.b64encode(out.read()).decode(),
    "least": server.minimum_version.name,
    "level": server.security_level,
    "version": ssl.OPENSSL_VERSION_INFO[:2],
    "refusals": [takes(base64.b64decode(each).decode()) for each in sys.argv[1:]],
}))
"""


def ask(image: BuiltImage, *pems: str) -> dict[str, Any]:
    encoded = [base64.b64encode(pem.encode()).decode() for pem in pems]
    blanks = " ".join(["%s"] * len(encoded))
    run = image.host.run(f"env OPENSSL_CONF={CONF} python3 -c %s {blanks}", PROGRAM, *encoded)
    assert run.rc == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def extensions_of(hello: bytes) -> dict[int, bytes]:
    """Return the extensions of a ClientHello (RFC 8446 4.1.2) in its record."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]  # session
    at += 2 + struct.unpack_from("!H", hello, at)[0]  # cipher suites
    at += 1 + hello[at]  # compression
    end = at + 2 + struct.unpack_from("!H", hello, at)[0]
    at += 2
    found = {}
    while at < end:
        kind, size = struct.unpack_from("!HH", hello, at)
        found[kind] = hello[at + 4 : at + 4 + size]
        at += 4 + size
    return found


def numbers(data: bytes) -> list[int]:
    return [number for (number,) in struct.iter_unpack("!H", data)]


def test_openssl_offers_the_profile_of_its_configuration(image: BuiltImage) -> None:
    for unit in UNITS:
        assert f"Environment=OPENSSL_CONF={CONF}" in unit.read_text(), unit.name
    found = ask(image)
    assert (found["least"], found["level"]) == ("TLSv1_2", 2)
    extensions = extensions_of(base64.b64decode(found["hello"]))
    assert numbers(extensions[SUPPORTED_VERSIONS][1:]) == [TLS_1_3, TLS_1_2]
    groups = numbers(extensions[SUPPORTED_GROUPS][2:])
    has_hybrid = tuple(found["version"]) >= (3, 5)
    assert groups == [*([X25519MLKEM768] if has_hybrid else []), X25519, P_256, P_384]
    first_share = struct.unpack_from("!H", extensions[KEY_SHARE], 2)[0]
    assert first_share == groups[0], "the hybrid costs no second round trip"


def test_openssl_refuses_keys_below_the_security_level(image: BuiltImage) -> None:
    def pem(bits: int) -> str:
        key = rsa.generate_private_key(65537, bits)
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return issue("server", None, ["a.example"], key=key).pem + key.private_bytes(*form).decode()

    assert ask(image, pem(2048), pem(1024))["refusals"] == ["", "EE_KEY_TOO_SMALL"]
